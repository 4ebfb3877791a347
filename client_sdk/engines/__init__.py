"""Where clients train: simulated ones, and the one that joins."""
