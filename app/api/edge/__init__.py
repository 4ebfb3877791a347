"""The edge: the checks that every request passes, and the headers that every answer carries."""
