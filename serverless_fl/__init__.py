"""The ground of coordinator and clients: rules, files of weights, bodies of requests, strategies.

This package imports neither `app` nor `client_sdk`, and they do not import each other.
"""

__version__ = "0.1.0"  # of all three packages; pyproject.toml reads it
