"""Wakes up clients that are due, at the addresses that they have named."""
