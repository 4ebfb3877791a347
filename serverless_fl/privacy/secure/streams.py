"""Pseudo-random words, of which masks are made: AES-256 in counter mode (SP 800-38A).

The words at any place can be computed without those before, so a span of the model is unmasked
alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

WEIGHTS, COUNTS = 0, 1  # the two sequences of words that a key gives
_BLOCK = 16  # bytes
_CHUNK = 1 << 18  # bytes; a chunk of the words and of the stream stay in the processor's cache
_ZEROS = bytes(_CHUNK)


@dataclass(frozen=True)
class Stream:
    """The stream of a key (32 bytes), which is added to words (`sign` 1) or taken off them (-1)."""

    key: bytes
    sign: int


def apply_streams(
    words: np.ndarray, streams: Iterable[Stream], first: int = 0, sequence: int = WEIGHTS
) -> None:
    """Add streams to words, or take them off, in place, modulo 2^bits of the words' dtype.

    `words`: uint16, uint32 or uint64, contiguous. `first`: the place of the first word in the
    whole sequence. A chunk of the words is finished before the next one is begun.
    """
    width = words.dtype.itemsize
    flat, per_chunk = words.reshape(-1), _CHUNK // width - _BLOCK // width
    all_streams, buffer = list(streams), bytearray(_CHUNK + _BLOCK)
    for start in range(0, flat.size, per_chunk):
        piece = flat[start : start + per_chunk]
        block, skipped = divmod((first + start) * width, _BLOCK)
        counter = sequence.to_bytes(8) + block.to_bytes(8)
        length = -(-(skipped + piece.nbytes) // _BLOCK) * _BLOCK
        zeros = memoryview(_ZEROS)[:length]
        stream = np.frombuffer(buffer, piece.dtype.newbyteorder("<"), piece.size, skipped)
        for each in all_streams:
            cipher = Cipher(algorithms.AES256(each.key), modes.CTR(counter)).encryptor()
            cipher.update_into(zeros, buffer)
            if each.sign > 0:
                np.add(piece, stream, out=piece)
            else:
                np.subtract(piece, stream, out=piece)
