"""What a client keeps between rounds for its strategy, and its half of the strategy."""
