"""What the coordinator costs and how fast it answers."""
