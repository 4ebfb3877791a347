"""The check of an upload: whether a stranger's file holds weights that can be averaged."""

from __future__ import annotations

from serverless_fl.domain.errors import BadWeights
from serverless_fl.weights.encodings import MAX_SCALE, is_scales, require_same_form
from serverless_fl.weights.header import (
    FLOATS,
    NUMPY_TYPES,
    TYPE_SIZES,
    Layout,
    TensorSpec,
    header_length,
    read_header,
)

# NumPy is imported where it is used: a coordinator that only answers polls never loads it.

MAX_F64 = 2.0**990  # 2**30 examples times this is still a float64


class UpdateCheck:
    """Checks an upload while its bytes stream by, and holds its header and one part at most.

    Feed it all bytes in order, then call `finish`. `expected` is the layout that the file must
    have, in any order of tensors: for a delta `encodings.encoded_layout` of the model's.
    Both methods raise BadWeights; its code is `malformed-weights` (not a safetensors file),
    `encoding-mismatch` or `layout-mismatch` (not the expected file), `non-finite` (NaN, infinity,
    or a float64 beyond MAX_F64), or `bad-scale` (of a delta).
    """

    def __init__(self, expected: Layout | None = None) -> None:
        self.expected = expected
        self.layout: Layout | None = None  # from when the header is complete
        self._pending = b""  # bytes that the next chunk completes: of the header, or of a value
        self._position = 0  # bytes of tensor data that were checked
        self._index = 0  # of the tensor that is being checked

    def feed(self, chunk: bytes) -> None:
        """Check the next bytes of the file, any number of them. Raises BadWeights."""
        data = self._pending + chunk if self._pending else chunk
        if self.layout is None:
            if len(data) < 8 or len(data) < (length := header_length(data)):
                self._pending = data
                return
            self.layout = self._read_layout(data[:length])
            data = data[length:]
        self._pending = self._check_values(self.layout, memoryview(data))

    def _read_layout(self, header: bytes) -> Layout:
        expected = self.expected
        if expected is not None and header == expected.header:
            return expected  # the usual case; parsing takes longer than all other checks together
        found = read_header(header)
        if expected is not None:
            require_same_form(expected, found)
        return found

    def _check_values(self, layout: Layout, data: memoryview) -> bytes:
        """Check the whole values in `data`; give the bytes of a last, unfinished one."""
        while data:
            if self._index == len(layout.tensors):
                raise BadWeights(f"There are more bytes than the {layout.total_bytes} announced.")
            tensor = layout.tensors[self._index]
            length = min(len(data), tensor.end - self._position)
            length -= length % TYPE_SIZES[tensor.dtype]
            if length == 0 and tensor.end > self._position:
                break
            if tensor.dtype in FLOATS:
                _require_finite(tensor, data[:length])
                if is_scales(tensor, self.expected):
                    _require_scales(data[:length])
            data = data[length:]
            self._position += length
            if self._position == tensor.end:
                self._index += 1
        return bytes(data)

    def finish(self) -> Layout:
        """Give the layout of what was fed. Raises BadWeights where bytes are missing."""
        if self.layout is None or self._pending or self._position != self.layout.data_bytes:
            raise BadWeights("The safetensors bytes end too early.")
        return self.layout


def _require_finite(tensor: TensorSpec, data: memoryview) -> None:
    """Raise BadWeights (`non-finite`) unless a mean of the tensor's values is a finite number."""
    import numpy as np

    values = np.frombuffer(data, dtype=NUMPY_TYPES[tensor.dtype])
    if tensor.dtype == "BF16":  # as integers: infinity and NaN have all bits of the exponent set
        finite = bool(((values & 0x7F80) != 0x7F80).all())
    else:
        finite = bool(np.isfinite(values).all())
    if not finite:
        raise BadWeights(
            f"Tensor {tensor.name[:80]!r} holds NaN or infinity. The training diverged: lower the "
            "learning rate.",
            code="non-finite",
        )
    if tensor.dtype == "F64" and np.abs(values).max(initial=0.0) > MAX_F64:
        raise BadWeights(
            f"Tensor {tensor.name[:80]!r} holds values beyond {MAX_F64:.0e}: their weighted sum "
            "could overflow.",
            code="non-finite",
        )


def _require_scales(data: memoryview) -> None:
    """Raise BadWeights (`bad-scale`) unless the largest product of each scale is a float32."""
    import numpy as np

    scales = np.frombuffer(data, dtype=NUMPY_TYPES["F32"])
    if len(scales) and not (scales.min() >= 0 and scales.max() <= MAX_SCALE):
        raise BadWeights(
            f"A delta's scales must lie between 0 and {MAX_SCALE:.0e}, but here is one of "
            f"{scales[np.argmax(np.abs(scales))]:.3g}.",
            code="bad-scale",
        )
