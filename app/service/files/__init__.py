"""Files of weights in the blob store: stored, uploaded, announced, compressed."""
