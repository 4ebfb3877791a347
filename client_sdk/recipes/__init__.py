"""Whole experiments in one call, for scripts and notebooks."""
