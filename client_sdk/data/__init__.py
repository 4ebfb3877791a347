"""Data sets, readers of users' own files, and how a picture becomes an input."""
