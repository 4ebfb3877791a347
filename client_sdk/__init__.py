"""The client SDK: enrol, train locally, upload. `python -m client_sdk --help` shows the commands."""
