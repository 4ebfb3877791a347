"""Accuracy, the local loop, and a start's seconds."""
