"""The client SDK: enrol, train locally, upload. See `python -m client_sdk --help`."""
