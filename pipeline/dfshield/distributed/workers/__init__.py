"""Workers that make units of work, and the messages they send."""
