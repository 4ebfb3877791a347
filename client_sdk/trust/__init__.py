"""What a party decides for itself: its identity, whom it trusts, and what it takes part in."""
