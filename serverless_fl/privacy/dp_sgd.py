"""DP-SGD: differential privacy of single examples, which each client makes by itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serverless_fl.domain.experiment import FEDERATED, Config
from serverless_fl.privacy.examples import DELTA, ExampleNoise
from serverless_fl.privacy.mechanism import Aggregator, Bounds, Mechanism


class DpSgd(Mechanism):
    """Clips the gradient of each example, and adds noise to each step, in the client.

    Abadi et al., "Deep Learning with Differential Privacy", 2016, arXiv:1607.00133. Choose it where
    nobody, the coordinator included, must learn from an update whether a single example was in a
    client's data. It needs no other clients, but many examples at each. Each client accounts for
    its own examples and sends no metrics but the epsilon that it has spent.
    """

    name: Literal["dp-sgd"] = "dp-sgd"

    noise_multiplier: float = Field(
        1.0,
        gt=0,
        le=10_000,
        description="Standard deviation of the noise on the sum of a step's gradients, in units of "
        "`clip_norm`",
    )
    clip_norm: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="The longest gradient of an example that counts; a longer one is scaled down "
        "to it",
    )
    delta: float = Field(
        DELTA,
        gt=0,
        le=0.01,
        description="The probability with which the promise of epsilon may fail: less than one by "
        "the number of a client's examples",
    )

    @property
    def example_noise(self) -> ExampleNoise:
        return ExampleNoise(
            noise_multiplier=self.noise_multiplier, clip_norm=self.clip_norm, delta=self.delta
        )

    def has_client_half(self, bounds: Bounds) -> bool:
        return True

    def fault(self, config: Config) -> str | None:
        if fault := super().fault(config):
            return fault
        if config.normalisation == FEDERATED:
            return self._without("normalisation (federated)", "given")
        if config.selection.name == "by-loss":
            return self._without("selection (by-loss)", "uniform")
        if config.target is not None:
            name = "target_accuracy" if config.target_metric is None else "target_value"
            return (
                f"{name} ends the experiment by metrics of the clients, and with privacy "
                f"{self.name} they send none: leave it out."
            )
        return None

    def _without(self, setting: str, instead: str) -> str:
        return (
            f"{setting} reads sums or metrics of the clients' examples, which have no noise, so "
            f"privacy {self.name} does not go with it: take {instead}."
        )

    def strategy_fault(self, strategy: Aggregator) -> str | None:
        if strategy.needs:
            what = f"needs the metrics {', '.join(strategy.needs)}"
        elif strategy.companions:
            what = "sends more than weights"
        else:
            return None
        return (
            f"strategy ({strategy.name}) {what}, and with privacy {self.name} clients send weights "
            "alone: take another one, such as fedavg."
        )
