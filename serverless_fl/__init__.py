"""What both sides stand on: the rules, files of weights, bodies of requests, strategies."""
