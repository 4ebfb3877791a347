"""What clients do: enrol, ask for their turn, bring updates."""
