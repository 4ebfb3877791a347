"""The characters that text from strangers must not hold."""

from __future__ import annotations

import re

# The characters C0, DEL and C1, lone surrogates (no output can encode them), Unicode's line ends,
# and the marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9).
_UNSEEN = "\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
CONTROLS = re.compile(f"[{_UNSEEN}]")
