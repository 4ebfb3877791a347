"""Notices of what happens to experiments, for the webhooks of the operator."""
