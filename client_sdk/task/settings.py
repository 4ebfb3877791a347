"""How a client trains: the settings that it gets with every round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from client_sdk.errors import DataError
from serverless_fl.wire.bounds import (
    MAX_BATCH,
    MAX_DECAY,
    MAX_EPOCHS,
    MAX_GRADIENT_NORM,
    MAX_MU,
    MAX_RATE,
)

if TYPE_CHECKING:
    import numpy as np

    from serverless_fl.privacy.examples import ExampleNoise
    from serverless_fl.wire.config import ExperimentConfig
    from serverless_fl.wire.turns import Training


@dataclass(frozen=True)
class TrainSettings:
    """How to train: passes over the data, examples a step, step size, momentum, and the share of
    every weight that a step's gradient takes back (L2 regularisation).

    `proximal_mu`: the share of the distance from the first weights that a step adds to its gradient
    (FedProx). `max_gradient_norm`: a longer gradient is shortened to it. `offset`: tensors of the
    model, by name, that a step adds to its gradient; the strategy computes them. `example_noise`:
    steps hide single examples (`client_sdk.task.private`). A task may ignore these four only if it
    does not name them in `takes`, because then it never gets them.

    `others` are all other settings of the group `training` (`serverless_fl.wire.config`), by name.
    They come from a coordinator, so this machine checks them, too. Raises DataError.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal_mu: float = 0.0
    max_gradient_norm: float | None = None
    offset: Mapping[str, np.ndarray] | None = field(default=None, hash=False, compare=False)
    example_noise: ExampleNoise | None = None
    others: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, training: Training) -> TrainSettings:
        """Read the settings of a turn."""
        told = training.model_dump(exclude={"seed"})
        return cls(
            epochs=told.pop("local_epochs"),
            batch_size=told.pop("batch_size"),
            learning_rate=told.pop("learning_rate"),
            momentum=told.pop("momentum"),
            weight_decay=told.pop("weight_decay"),
            proximal_mu=told.pop("proximal_mu"),
            max_gradient_norm=told.pop("max_gradient_norm"),
            others=told,
        )

    @classmethod
    def of_experiment(cls, config: ExperimentConfig) -> TrainSettings:
        """Read the settings of an experiment: those of its first round, with an empty offset."""
        return cls(
            epochs=config.local_epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            proximal_mu=config.proximal_mu + config.strategy.pull,
            max_gradient_norm=config.max_gradient_norm,
            offset={} if config.strategy.remembers else None,
            example_noise=config.privacy.example_noise,
        )

    @property
    def corrections(self) -> dict[str, str]:
        """The corrections of a gradient that are asked for: names as in `takes`, and words."""
        found = {}
        if self.offset is not None:
            found["offset"] = "the gradients that the strategy corrects"
        if self.proximal_mu:
            found["proximal_mu"] = f"proximal_mu {self.proximal_mu:g}"
        if self.max_gradient_norm is not None:
            found["max_gradient_norm"] = f"max_gradient_norm {self.max_gradient_norm:g}"
        if self.example_noise is not None:
            found["example_noise"] = "privacy dp-sgd"
        return found

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raises DataError for a setting out of range."""
        for name, most in (("epochs", MAX_EPOCHS), ("batch_size", MAX_BATCH)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise DataError(f"{name} must be a whole number from 1 to {most}, not {value!r}.")
        if not _is_number(self.learning_rate) or not 0 < self.learning_rate <= MAX_RATE:
            raise DataError(
                f"learning_rate must be above 0 and at most {MAX_RATE:g}, "
                f"not {self.learning_rate!r}."
            )
        if not _is_number(self.momentum) or not 0 <= self.momentum < 1:
            raise DataError(f"momentum must be from 0 to below 1, not {self.momentum!r}.")
        if not _is_number(self.weight_decay) or not 0 <= self.weight_decay <= MAX_DECAY:
            raise DataError(
                f"weight_decay must be from 0 to {MAX_DECAY:g}, not {self.weight_decay!r}."
            )
        if not _is_number(self.proximal_mu) or not 0 <= self.proximal_mu <= MAX_MU:
            raise DataError(f"proximal_mu must be from 0 to {MAX_MU:g}, not {self.proximal_mu!r}.")
        norm = self.max_gradient_norm
        if norm is not None and (not _is_number(norm) or not 0 < norm <= MAX_GRADIENT_NORM):
            raise DataError(
                f"max_gradient_norm must be above 0 and at most {MAX_GRADIENT_NORM:g}, "
                f"not {norm!r}."
            )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
