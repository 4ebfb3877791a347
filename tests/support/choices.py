"""Toy strategies, and the settings of an experiment that may choose them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serverless_fl.aggregation.fedavg import FedAvg
from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.wire.choices import OneOf
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUP_KEY


class Toy(Strategy):
    """A toy that takes
    two settings.

    It has a paper.
    """

    name: Literal["toy"] = "toy"
    toy_rate: float = Field(0.5, gt=0, le=10, description="A rate")
    toy_steps: int = Field(1, ge=1, le=9, description="Steps")


class Other(Strategy):
    """Another toy."""

    name: Literal["other"] = "other"
    toy_rate: float = Field(0.25, gt=0, le=10, description="A rate")
    toy_word: Literal["a", "b"] | None = Field(None, description="A word")


TOYS: tuple[type[Strategy], ...] = (FedAvg, Toy, Other)


class WithToys(ExperimentConfig):
    strategy: Annotated[Strategy, OneOf(TOYS)] = Field(
        FedAvg(),
        description="How updates are aggregated",
        json_schema_extra={GROUP_KEY: "strategy", "default": "fedavg"},
    )
