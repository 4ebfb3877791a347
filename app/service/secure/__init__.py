"""Secure aggregation: the phases of a round, and the sum without its masks."""


class CannotUnmask(Exception):
    """The shares that clients handed in do not open the sum of their updates."""
