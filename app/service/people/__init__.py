"""People who call: their roles, and how the coordinator recognises them."""
