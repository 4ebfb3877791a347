"""Accuracy, the local loop, and poisoned updates."""
