"""State that is derived from the log: made, kept up to date, made anew beside itself, and thrown away."""
