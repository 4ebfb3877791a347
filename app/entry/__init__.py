"""Entries for platforms that are not servers. One file a platform; none knows another.

What they share is in `container`.
"""
