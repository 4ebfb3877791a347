"""The endpoints, a file for each kind of caller or resource."""
