"""Data sets, readers of users' own files, and the preparation of pictures."""
