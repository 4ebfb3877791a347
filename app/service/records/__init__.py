"""Domain objects in and out of the document store."""
