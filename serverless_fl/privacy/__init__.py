"""Privacy mechanisms: what changes an update before it leaves a client, and around aggregation.

`mechanism` has the contract, `MECHANISMS` all mechanisms: a new one is a file here and a name
there.
"""

from __future__ import annotations

from serverless_fl.alternatives import stored
from serverless_fl.domain.experiment import Config
from serverless_fl.privacy.mechanism import Bounds, Mechanism, Taken
from serverless_fl.privacy.norm_bound import NormBound
from serverless_fl.registry import registered

__all__ = ["MECHANISMS", "Bounds", "Mechanism", "NormBound", "Taken", "mechanism_of"]

MECHANISMS = registered(
    Mechanism,
    __name__,
    "norm_bound",
    "dp_fedavg",
    "dp_adaptive",
    "dp_ftrl",
    "dp_sgd",
)


def mechanism_of(config: Config) -> Mechanism:
    """Give the privacy mechanism of an experiment, with its settings. Raises InvalidConfig.

    Another release may have stored a mechanism that this one does not know.
    """
    return stored(config.privacy, MECHANISMS, "privacy mechanism").within(config)
