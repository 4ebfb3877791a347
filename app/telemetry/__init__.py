"""Logs, metrics and traces. Every module may import them; they know no federated learning.

They import the standard library only, to keep a cold start short. `trace` imports OpenTelemetry if
an operator asks for traces.
"""
