"""What clients do: enrol, ask for their turn, upload updates."""
