"""The check of an upload: does a stranger's file hold weights that can be averaged?"""

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

# The functions import NumPy themselves, so that a coordinator that answers only polls never loads
# it.

MAX_F64 = 2.0**990  # the largest float64 in an update: 2**30 examples times it is still finite


class UpdateCheck:
    """Checks an upload while its bytes stream in; it holds the header and the last chunk in memory.

    Call `feed` with all bytes in order, then `finish`. `expected` is the layout that the file must
    have, with its tensors in any order; for a delta it is `encodings.encoded_layout` of the model's
    layout. Both methods raise BadWeights with the code `malformed-weights` (not a safetensors
    file), `encoding-mismatch` or `layout-mismatch` (not the expected file), `non-finite` (NaN,
    infinity, or a float64 beyond MAX_F64), or `bad-scale` (an impossible scale of a delta).
    """

    def __init__(self, expected: Layout | None = None) -> None:
        self.expected = expected
        self.layout: Layout | None = None  # None until the header is complete
        self._pending = b""  # the start of a header, or of a value, that the next chunk goes on
        self._position = 0  # the number of checked bytes of tensor data
        self._index = 0  # the number of the tensor at that position

    def feed(self, chunk: bytes) -> None:
        """Check the next bytes of the file, in a chunk of any length. Raises BadWeights."""
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
            return expected  # the usual case; parsing takes longer than all the other checks
        found = read_header(header)
        if expected is not None:
            require_same_form(expected, found)
        return found

    def _check_values(self, layout: Layout, data: memoryview) -> bytes:
        """Check the complete values in `data`; give the bytes of an incomplete last value."""
        while data:
            if self._index == len(layout.tensors):
                raise BadWeights(
                    f"The file has more than the {layout.total_bytes} bytes that its header "
                    "announces."
                )
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
        """Give the layout of the checked file. Raises BadWeights if bytes are missing."""
        if self.layout is None or self._pending or self._position != self.layout.data_bytes:
            raise BadWeights("The safetensors bytes end too early.")
        return self.layout


def _require_finite(tensor: TensorSpec, data: memoryview) -> None:
    """Raise BadWeights (`non-finite`) unless a mean of the tensor's values is a finite number."""
    import numpy as np

    values = np.frombuffer(data, dtype=NUMPY_TYPES[tensor.dtype])
    if tensor.dtype == "BF16":  # NumPy reads integers; NaN and infinity have all exponent bits set
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
    """Raise BadWeights (`bad-scale`) unless every scaled value is a finite float32."""
    import numpy as np

    scales = np.frombuffer(data, dtype=NUMPY_TYPES["F32"])
    if len(scales) and not (scales.min() >= 0 and scales.max() <= MAX_SCALE):
        raise BadWeights(
            f"A delta's scales must lie between 0 and {MAX_SCALE:.0e}, but one is "
            f"{scales[np.argmax(np.abs(scales))]:.3g}.",
            code="bad-scale",
        )
