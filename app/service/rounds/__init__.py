"""The state machine of rounds, from their opening to the deletion of their uploads."""
