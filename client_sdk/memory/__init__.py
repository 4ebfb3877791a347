"""A client's half of a strategy, and the file that it keeps between rounds for it."""
