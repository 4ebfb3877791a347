"""The HTTP client of a coordinator's API."""
