"""What is personal in an event: encrypted under its subject's key, and unreadable once that key is destroyed."""
