"""The endpoints. They turn requests into calls and answers into bodies, and decide nothing."""
