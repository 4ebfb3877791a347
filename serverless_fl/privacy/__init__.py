"""Privacy mechanisms: what changes an update before it leaves a client, and around aggregation."""

from __future__ import annotations

from serverless_fl.domain.experiment import Config
from serverless_fl.privacy.mechanism import Mechanism
from serverless_fl.privacy.norm_bound import NormBound

__all__ = ["Mechanism", "mechanism_of"]


def mechanism_of(config: Config) -> Mechanism:
    """Give the mechanism of an experiment; one that changes nothing if it has none."""
    if config.max_update_norm is None:
        return Mechanism()
    return NormBound(config.max_update_norm, config.norm_action)
