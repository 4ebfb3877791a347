"""The contract of a privacy mechanism: what each side asks of it.

A mechanism is a pure function of its settings and of what it is given. At the client,
`before_upload` runs after the training. At the coordinator, `share` runs when an update comes, and
`wrap_step` when the strategy makes the next model of all updates. A mechanism overrides what it
needs.

This module imports NumPy for its types only, because a coordinator that only answers polls never
loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serverless_fl.privacy.sending import Sending
    from serverless_fl.weights.spans import Piece, Step


class Mechanism:
    """A mechanism that changes nothing."""

    wraps_step = False
    needs_norm = False  # whether `share` must know an update's distance from its base model

    def before_upload(self, base: bytes, trained: bytes, sending: Sending) -> bytes:
        """Give the file that leaves the client, in the encoding of `sending`.

        `trained` are the weights after the training, and `base` those before it (safetensors).
        Raises BadWeights if the two have different tensors.
        """
        return sending.encode(base, trained)

    def share(self, norm: float) -> float:
        """Give the share of an update's distance from its base model that counts: 0 to 1.

        `norm` is that distance (Euclidean). Raises BadWeights if the update must not count at all.
        """
        return 1.0

    def wrap_step(self, step: Step, elements: Piece) -> Step:
        """Give the step to take in place of the strategy's over some elements of a tensor.

        Only called if `wraps_step`, and perhaps again for the same elements, cut otherwise: its
        result must depend on an element's place in the tensor and not on the cut.
        """
        return step
