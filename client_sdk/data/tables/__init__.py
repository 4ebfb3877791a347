"""Tables: users' own rows and columns, read, described and made into numbers."""
