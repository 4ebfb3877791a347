"""Bodies of requests and answers, and the bounds of everything in them."""
