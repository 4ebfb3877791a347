"""The ground of coordinator and clients: rules, files of weights, bodies of requests, strategies.

This package imports neither `app` nor `client_sdk`, and they do not import each other.
"""
