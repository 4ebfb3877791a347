"""`python -m client_sdk`: a module for each command, their options, and the dispatch."""
