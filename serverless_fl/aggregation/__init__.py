"""Strategies: how a round's updates become the next global model. One algorithm a file.

`strategy` has the contract, `STRATEGIES` all strategies: a new one is a file here and a line there.
"""

from __future__ import annotations

from pydantic import ValidationError

from serverless_fl.aggregation.fedavg import FedAvg
from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import Config

STRATEGIES: tuple[type[Strategy], ...] = (FedAvg,)


def strategy_of(config: Config) -> Strategy:
    """Give the strategy of an experiment, with its settings.

    Raises InvalidConfig if there is no such strategy, or if it refuses a setting: another release
    may have stored the experiment.
    """
    name, settings = config.strategy.name, config.strategy.settings
    found = {strategy.model_fields["name"].default: strategy for strategy in STRATEGIES}
    if name not in found:
        raise InvalidConfig(f"There is no strategy {name!r}; there are {', '.join(found)}.")
    try:
        return found[name](**settings)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(str(part) for part in first["loc"])
        raise InvalidConfig(f"The strategy {name} refuses {what}: {first['msg']}.") from error
