"""The norm bound: no update moves the model further than a given distance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.privacy.mechanism import Bounds, Mechanism

if TYPE_CHECKING:
    from serverless_fl.privacy.sending import Sending

_MARGIN = 2.0**-16  # more than the rounding of a float32 update's distance


class NormBound(Mechanism):
    """No privacy mechanism; `max_update_norm` bounds an update's distance from its base model.

    Sun et al., "Can You Really Backdoor Federated Learning?", 2019, arXiv:1911.07963: with it no
    single client can move the mean further than the bound times its share of the examples. An
    update beyond the bound is scaled down to it, or refused if `norm_action` is `reject`. The
    companions of an update (`Strategy.companions`) are not bounded. Where updates are refused,
    clients scale theirs down themselves, so that none of an honest client is refused.

    The bound is older than the choice, so its two settings are the experiment's own.
    """

    name: Literal["none"] = "none"

    def fault(self, config: Config) -> str | None:
        return None

    def has_client_half(self, bounds: Bounds) -> bool:
        return bounds.max_update_norm is not None and bounds.norm_action == "reject"

    def before_upload(self, base: bytes, trained: bytes, sending: Sending, bounds: Bounds) -> bytes:
        sent, bound = sending.encode(base, trained), bounds.max_update_norm
        if bound is None or bounds.norm_action != "reject":
            return sent  # the coordinator scales it down
        if not math.isfinite(norm := sending.distance(base, sent)):
            return sent  # the coordinator has to refuse it
        from serverless_fl.privacy.sending import clip_file

        scale, margin = 1.0, _MARGIN
        while norm > bound:  # the rounding of the file may lengthen what was scaled down
            scale *= (1 - margin) * bound / norm
            margin = min(2 * margin, 0.5)
            sent = sending.encode(base, clip_file(base, trained, scale))
            norm = sending.distance(base, sent)
        return sent

    def needs_norm(self, bounds: Bounds) -> bool:
        return bounds.max_update_norm is not None

    def share(self, norm: float, bounds: Bounds, before: LedgerEntry | None = None) -> float:
        bound = math.inf if bounds.max_update_norm is None else bounds.max_update_norm
        if norm <= bound:
            return 1.0
        if bounds.norm_action == "reject" or not math.isfinite(norm):
            raise BadWeights(
                f"The update differs from the base model by {norm:.4g}; at most {bound:.4g} "
                "is allowed. Lower the learning rate or the number of local epochs.",
                code="norm-exceeded",
            )
        return bound / norm
