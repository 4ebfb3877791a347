"""Where simulated clients train."""
