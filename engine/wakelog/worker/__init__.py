"""Workers: claiming, running handlers inside their limits, finishing; and the doorkeeper that wakes them."""
