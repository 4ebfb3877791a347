"""Judging strangers' weights: what is in an upload, told while its bytes stream by."""

from __future__ import annotations

from app.domain.errors import BadWeights
from app.wire.codec import (
    FLOATS,
    NUMPY_TYPES,
    TYPE_SIZES,
    Layout,
    TensorSpec,
    header_length,
    parse_header,
)
from app.wire.encodings import MAX_SCALE, is_scales, require_same_form

# NumPy is imported where it is used: a coordinator that only answers polls never loads it.

MAX_F64 = 2.0**990  # times 2**30 examples it is still a float64


class UpdateCheck:
    """Judges an upload as its bytes stream by, holding no more than its header and one part.

    Feed it all bytes in order, then call `finish`. Both raise BadWeights: `malformed-weights`,
    `encoding-mismatch` or `layout-mismatch` (against `expected`), or `non-finite`. What is expected
    of a delta is its own layout (`app.wire.encodings.encoded`).
    """

    def __init__(self, expected: Layout | None = None) -> None:
        self.expected = expected
        self.layout: Layout | None = None
        self._pending = b""
        self._position = 0  # bytes of tensor data seen, less what is pending
        self._index = 0

    def feed(self, chunk: bytes) -> None:
        data = self._pending + chunk if self._pending else chunk
        if self.layout is None:
            if len(data) < 8 or len(data) < (length := header_length(data)):
                self._pending = data
                return
            self.layout = self._layout(data[:length])
            data = data[length:]
        self._pending = self._check_finite(self.layout, memoryview(data))

    def _layout(self, header: bytes) -> Layout:
        expected = self.expected
        if expected is not None and header == expected.header:
            return expected  # as nearly all are: to understand it anew takes longer than the rest
        found = parse_header(header)
        if expected is not None:
            require_same_form(expected, found)
        return found

    def _check_finite(self, layout: Layout, data: memoryview) -> bytes:
        """Check the whole elements in `data`; return the bytes of a last, unfinished one."""
        while data:
            if self._index == len(layout.tensors):
                raise BadWeights(f"There are more bytes than the {layout.total_bytes} announced.")
            if (run := self._sound_run(layout, data)) > 0:
                data = data[run:]
                continue
            tensor = layout.tensors[self._index]
            span = min(len(data), tensor.end - self._position)
            span -= span % TYPE_SIZES[tensor.dtype]
            if span == 0 and tensor.end > self._position:
                break
            if tensor.dtype in FLOATS:
                _require_finite(tensor, data[:span])
                if is_scales(tensor, self.expected):
                    _require_scales(data[:span])
            data = data[span:]
            self._position += span
            if self._position == tensor.end:
                self._index += 1
        return bytes(data)

    def _sound_run(self, layout: Layout, data: memoryview) -> int:
        """Pass all whole F32 tensors in a row at once: so many bytes. 0 where there are none, or
        where something is wrong with them, or may be: then each is looked at by itself.
        """
        start, last = self._position, self._index
        while last < len(layout.tensors) and layout.tensors[last].dtype == "F32":
            if layout.tensors[last].end - start > len(data):
                break
            if is_scales(layout.tensors[last], self.expected):
                break
            last += 1
        if last < self._index + 2 or layout.tensors[self._index].start != start:
            return 0
        run = layout.tensors[last - 1].end - start
        if not _all_finite("F32", data[:run]):
            return 0
        self._position, self._index = start + run, last
        return run

    def finish(self) -> Layout:
        """The layout of what was fed. Raises BadWeights where bytes are missing."""
        if self.layout is None or self._pending or self._position != self.layout.data_bytes:
            raise BadWeights("The safetensors bytes end too early.")
        return self.layout


def _require_finite(tensor: TensorSpec, data: memoryview) -> None:
    import numpy as np

    if not _all_finite(tensor.dtype, data):
        raise BadWeights(
            f"Tensor {tensor.name[:80]!r} holds NaN or infinity. The training diverged: lower the "
            "learning rate.",
            code="non-finite",
        )
    if tensor.dtype != "F64" or not data:
        return
    if np.abs(np.frombuffer(data, dtype=NUMPY_TYPES["F64"])).max() > MAX_F64:
        raise BadWeights(
            f"Tensor {tensor.name[:80]!r} holds values beyond {MAX_F64:.0e}: their weighted sum "
            "could overflow.",
            code="non-finite",
        )


def _all_finite(dtype: str, data: memoryview) -> bool:
    import numpy as np

    values = np.frombuffer(data, dtype=NUMPY_TYPES[dtype])
    if dtype == "BF16":
        return bool(((values & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(values).all())


def _require_scales(data: memoryview) -> None:
    """Raise BadWeights(bad-scale) unless each one's largest product is a finite float32."""
    import numpy as np

    scales = np.frombuffer(data, dtype=NUMPY_TYPES["F32"])
    if len(scales) and not (scales.min() >= 0 and scales.max() <= MAX_SCALE):
        raise BadWeights(
            f"A delta's scales must lie between 0 and {MAX_SCALE:.0e}, but here is one of "
            f"{scales[np.argmax(np.abs(scales))]:.3g}.",
            code="bad-scale",
        )
