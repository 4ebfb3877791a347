"""The coordinator as a server of its own: `python -m app`."""
