"""Appending events and reading them back, in the order of the log."""
