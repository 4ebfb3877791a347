"""Many clients at once against one coordinator."""
