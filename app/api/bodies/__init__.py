"""Turns bodies of requests into the service's values, and its answers into bodies."""
