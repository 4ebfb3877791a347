"""Safetensors files written by hand, without our writer: also such as no writer would make."""

from __future__ import annotations

import json
import struct


def file_of(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header (bytes, or what becomes JSON), and this in its length field."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def parts_of(data: bytes) -> tuple[dict, bytes]:
    """A sound file's header, from JSON, and its tensors' bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]
