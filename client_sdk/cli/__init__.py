"""`python -m client_sdk`: arguments, commands, exit codes."""
