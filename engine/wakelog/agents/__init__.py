"""Agents: what they want, how they are treated, and what their handlers can do."""
