"""What a run shows on the terminal, and the files that it writes."""
