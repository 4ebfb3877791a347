"""Logs, metrics and traces. Knows nothing of federated learning, and everything may import it.

Standard library only: a cold start pays for nothing here that it does not use. OpenTelemetry is
imported where an operator asks for traces.
"""
