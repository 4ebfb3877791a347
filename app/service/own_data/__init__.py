"""Parties with data of their own: what they declare, and the normalisation that their sums fix."""
