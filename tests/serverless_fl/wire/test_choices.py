"""A choice of an alternative with settings of its own: its forms, and what is refused."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from serverless_fl.aggregation import STRATEGIES, strategy_of
from serverless_fl.aggregation.fedavg import FedAvg
from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.provenance import config_digest
from serverless_fl.wire.choices import OneOf
from serverless_fl.wire.config import ExperimentConfig

NEEDED = {"dataset": "d", "dataset_size": 100, "model": "m"}


class Toy(Strategy):
    """A toy."""

    name: Literal["toy"] = "toy"
    rate: float = Field(0.5, gt=0, le=10, description="A rate")
    steps: int = Field(1, ge=1, le=9, description="Steps")


class Settings(ExperimentConfig):
    strategy: Annotated[Strategy, OneOf([*STRATEGIES, Toy])] = Field(
        FedAvg(), json_schema_extra={"x-group": "strategy", "default": "fedavg"}
    )


def made(strategy):
    return Settings(**NEEDED, strategy=strategy)


@pytest.fixture
def with_toy(monkeypatch):
    monkeypatch.setattr("serverless_fl.aggregation.STRATEGIES", (*STRATEGIES, Toy))


@pytest.mark.parametrize(
    ("given", "travels"),
    [
        ("fedavg", "fedavg"),
        ({"name": "fedavg"}, "fedavg"),
        ("toy", "toy"),
        ({"name": "toy", "rate": 0.5}, "toy"),
        ({"name": "toy", "rate": 2}, {"name": "toy", "rate": 2.0}),
        (Toy(steps=2), {"name": "toy", "steps": 2}),
    ],
    ids=str,
)
def test_a_choice_travels_in_its_shortest_form(with_toy, given, travels):
    config = made(given)
    for shown in (config.model_dump(), json.loads(config.model_dump_json())):
        assert shown["strategy"] == travels
        assert Settings(**shown) == config
    kept = config.to_config()
    assert kept.flat()["strategy"] == travels
    assert Config.of(json.loads(json.dumps(kept.flat()))) == kept
    assert hash(kept) == hash(Config.of(kept.flat()))
    assert strategy_of(kept) == config.strategy


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("tyo", ("strategy",)),
        ({"rate": 0.5}, ("strategy",)),
        ({"name": ["toy"]}, ("strategy",)),
        (None, ("strategy",)),
        (3, ("strategy",)),
        ([], ("strategy",)),
        ({"name": "toy", "rate": 0}, ("strategy", "toy", "rate")),
        ({"name": "toy", "rate": "0.5"}, ("strategy", "toy", "rate")),
        ({"name": "toy", "rate": float("inf")}, ("strategy", "toy", "rate")),
        ({"name": "toy", "steps": True}, ("strategy", "toy", "steps")),
        ({"name": "fedavg", "rate": 0.5}, ("strategy", "fedavg", "rate")),
    ],
    ids=str,
)
def test_what_is_refused(given, where):
    with pytest.raises(ValidationError) as refused:
        made(given)
    [fault] = refused.value.errors()
    assert fault["loc"] == where
    if where == ("strategy",):
        assert fault["msg"] == "must be one of fedavg, toy, or an object with such a `name`"


def test_the_schema_has_the_name_and_the_objects():
    schema = Settings.model_json_schema()
    names, objects = schema["properties"]["strategy"]["anyOf"]
    assert names["enum"] == ["fedavg", "toy"]
    assert objects["discriminator"]["mapping"]["toy"] == "#/$defs/Toy"
    assert schema["$defs"]["Toy"]["required"] == ["name"]
    assert schema["properties"]["strategy"]["default"] == "fedavg"
    assert Settings.model_json_schema(mode="serialization") == schema


def test_a_digest_depends_on_what_differs_from_the_defaults():
    plain, toy, other = (
        config_digest(made(s).to_config()) for s in ("fedavg", "toy", Toy(rate=0.1))
    )
    assert len({plain, toy, other}) == 3
    assert plain == config_digest(ExperimentConfig(**NEEDED).to_config())
    assert other == config_digest(made({"name": "toy", "steps": 1, "rate": 0.1}).to_config())


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ("gone", "There is no strategy 'gone'; there are fedavg, toy."),
        ({"name": "toy", "rate": 0}, "The strategy toy refuses rate: Input should be greater"),
        ({"name": "toy", "old": 1}, "The strategy toy refuses old: Extra inputs"),
    ],
    ids=str,
)
def test_a_stored_strategy_of_another_release(with_toy, stored, says):
    with pytest.raises(InvalidConfig, match=says):
        strategy_of(Config.of({**NEEDED, "strategy": stored}))


@pytest.mark.parametrize("stored", [None, 3, [], {}, {"name": 3}], ids=str)
def test_a_stored_choice_that_is_none(stored):
    with pytest.raises(InvalidConfig, match="A choice is a name, or an object with a name, not"):
        Choice.of(stored)
