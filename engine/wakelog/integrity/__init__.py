"""Seals of the log: making them, verifying what they cover, and proving that an event is among it."""
