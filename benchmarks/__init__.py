"""What Wakelog costs, side by side with the same work done without it."""
