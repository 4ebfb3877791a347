"""Rules without input or output: experiments, rounds, draws, provenance, prices, errors.

The modules import the standard library and each other, nothing else.
"""
