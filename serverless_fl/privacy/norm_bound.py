"""The norm bound: no update moves the model further than a given distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serverless_fl.domain.errors import BadWeights
from serverless_fl.privacy.mechanism import Mechanism

if TYPE_CHECKING:
    from serverless_fl.privacy.sending import Sending

_MARGIN = 2.0**-16  # more than the rounding of a float32 update's distance


@dataclass(frozen=True)
class NormBound(Mechanism):
    """Bounds an update's distance from its base model.

    Sun et al., "Can You Really Backdoor Federated Learning?", 2019, arXiv:1911.07963: with it no
    single client can move the mean further than the bound times its share of the examples. An
    update beyond the bound is scaled down to it, or refused if `action` is `reject`. The companions
    of an update (`Strategy.companions`) are not bounded. Then clients
    scale their updates down themselves, so that none of an honest client is refused.
    """

    bound: float
    action: str = "clip"

    needs_norm = True

    def before_upload(self, base: bytes, trained: bytes, sending: Sending) -> bytes:
        sent = sending.encode(base, trained)
        if self.action != "reject" or not math.isfinite(norm := sending.distance(base, sent)):
            return sent  # the coordinator scales it down, or has to refuse it
        from serverless_fl.privacy.sending import clip_file

        scale, margin = 1.0, _MARGIN
        while norm > self.bound:  # the rounding of the file may lengthen what was scaled down
            scale *= (1 - margin) * self.bound / norm
            margin = min(2 * margin, 0.5)
            sent = sending.encode(base, clip_file(base, trained, scale))
            norm = sending.distance(base, sent)
        return sent

    def share(self, norm: float) -> float:
        if norm <= self.bound:
            return 1.0
        if self.action == "reject" or not math.isfinite(norm):
            raise BadWeights(
                f"The update differs from the base model by {norm:.4g}; at most {self.bound:.4g} "
                "is allowed. Lower the learning rate or the number of local epochs.",
                code="norm-exceeded",
            )
        return self.bound / norm
