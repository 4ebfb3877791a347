"""A round's updates become the next model: what is left to do, and doing it."""
