"""Many participants on one machine, with a coordinator of their own."""
