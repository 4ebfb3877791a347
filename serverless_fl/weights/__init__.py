"""Files of weights: one reader and one writer of headers, spans, checks, encodings, deltas."""
