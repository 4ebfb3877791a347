"""A coordinator in the role `helper`: its use cases, and what it must not forget."""
