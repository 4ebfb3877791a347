"""Rules without input or output: experiments, rounds, draws, provenance, prices, errors."""
