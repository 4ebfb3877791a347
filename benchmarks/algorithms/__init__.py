"""Strategies and schedules on MNIST: labels that differ, malicious clients, stragglers, papers."""
