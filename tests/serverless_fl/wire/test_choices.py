"""A choice of an alternative with settings of its own: its forms, and what is refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from app.api.bodies.experiments import settings_body
from serverless_fl.aggregation import strategy_of
from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.provenance import config_digest
from serverless_fl.wire.config import ExperimentConfig
from tests.support.choices import TOYS, Toy, WithToys

NEEDED = {"dataset": "d", "dataset_size": 100, "model": "m"}


def made(strategy):
    return WithToys(**NEEDED, strategy=strategy)


@pytest.fixture
def with_toy(monkeypatch):
    monkeypatch.setattr("serverless_fl.aggregation.STRATEGIES", TOYS)


@pytest.mark.parametrize(
    ("given", "travels"),
    [
        ("fedavg", "fedavg"),
        ({"name": "fedavg"}, "fedavg"),
        ("toy", "toy"),
        ({"name": "toy", "toy_rate": 0.5}, "toy"),
        ({"name": "toy", "toy_rate": 2}, {"name": "toy", "toy_rate": 2.0}),
        (Toy(toy_steps=2), {"name": "toy", "toy_steps": 2}),
    ],
    ids=str,
)
def test_a_choice_travels_in_its_shortest_form(with_toy, given, travels):
    config = made(given)
    for shown in (config.model_dump(), json.loads(config.model_dump_json())):
        assert shown["strategy"] == travels
        assert WithToys(**shown) == config
    kept = config.to_config()
    assert kept.flat()["strategy"] == travels
    assert Config.of(json.loads(json.dumps(kept.flat()))) == kept
    assert hash(kept) == hash(Config.of(kept.flat()))
    assert strategy_of(kept) == config.strategy


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("tyo", ("strategy",)),
        ({"toy_rate": 0.5}, ("strategy",)),
        ({"name": ["toy"]}, ("strategy",)),
        (None, ("strategy",)),
        (3, ("strategy",)),
        ([], ("strategy",)),
        ({"name": "toy", "toy_rate": 0}, ("strategy", "toy_rate")),
        ({"name": "toy", "toy_rate": "0.5"}, ("strategy", "toy_rate")),
        ({"name": "toy", "toy_rate": float("inf")}, ("strategy", "toy_rate")),
        ({"name": "toy", "toy_steps": True}, ("strategy", "toy_steps")),
        ({"name": "fedavg", "toy_rate": 0.5}, ("strategy", "toy_rate")),
    ],
    ids=str,
)
def test_what_is_refused(given, where):
    with pytest.raises(ValidationError) as refused:
        made(given)
    [fault] = refused.value.errors()
    assert fault["loc"] == where
    if where == ("strategy",):
        hint = " (did you mean toy?)" if given == "tyo" else ""
        rule = "must be one of fedavg, toy, other, or an object with such a `name`"
        assert fault["msg"] == rule + hint


def test_the_schema_has_the_name_and_the_objects():
    schema = WithToys.model_json_schema()
    names, objects = schema["properties"]["strategy"]["anyOf"]
    assert names["enum"] == ["fedavg", "toy", "other"]
    assert objects["discriminator"]["mapping"]["toy"] == "#/$defs/Toy"
    assert schema["$defs"]["Toy"]["required"] == ["name"]
    assert schema["properties"]["strategy"]["default"] == "fedavg"
    assert WithToys.model_json_schema(mode="serialization") == schema


def test_a_digest_depends_on_what_differs_from_the_defaults():
    plain, toy, other = (
        config_digest(made(s).to_config()) for s in ("fedavg", "toy", Toy(toy_rate=0.1))
    )
    assert len({plain, toy, other}) == 3
    assert plain == config_digest(ExperimentConfig(**NEEDED).to_config())
    assert other == config_digest(
        made({"name": "toy", "toy_steps": 1, "toy_rate": 0.1}).to_config()
    )


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ("gone", "There is no strategy 'gone'; there are fedavg, toy, other."),
        (
            {"name": "toy", "toy_rate": 0},
            "The strategy toy refuses toy_rate: Input should",
        ),
        ({"name": "toy", "old": 1}, "The strategy toy has no old."),
    ],
    ids=str,
)
def test_a_stored_strategy_of_another_release(with_toy, stored, says):
    with pytest.raises(InvalidConfig, match=says):
        strategy_of(Config.of({**NEEDED, "strategy": stored}))


def test_equal_stored_choices_are_one_object(with_toy):
    one, same = (Config.of({**NEEDED, "strategy": {"name": "toy", "toy_steps": 2}}) for _ in "ab")
    other = Config.of({**NEEDED, "strategy": {"name": "toy", "toy_steps": 3}})
    assert strategy_of(one) is strategy_of(same)
    assert strategy_of(other) == Toy(toy_steps=3)


def test_settings_of_another_release_are_not_shown():
    kept = Config.of({**NEEDED, "strategy": {"name": "fedavg", "gone": 1}})
    with pytest.raises(
        InvalidConfig, match=r"Another release .* cannot read: strategy.gone: Extra"
    ):
        settings_body(kept)


OLD = {"clients": 4, "clients_per_round": 2}
OTHERS = {
    **{"rounds": 3, "learning_rate": 0.1, "quorum": 2, "momentum": 0.9, "budget_usd": 3.0},
    "update_encoding": "delta-int8",
}


@pytest.mark.parametrize(
    ("changes", "digest"),
    [
        ({}, "99ab05502849ab7d1c42913d7d3d4971199fa2dc684856405c88ec271b8742b9"),
        (OTHERS, "68feba8c54299eabb8562a666aa5da6298d1f24e016be4294900d0befbb5dc17"),
    ],
)
def test_digests_are_those_of_the_release_that_knew_no_choices(changes, digest):
    config = ExperimentConfig(**NEEDED, **OLD, **changes).to_config()
    assert config_digest(config) == digest
    stored = {**NEEDED, **OLD, **changes, "strategy": "fedavg", "patience": 1}
    assert config_digest(Config.of(stored)) == digest


@pytest.mark.parametrize("stored", [None, 3, [], {}, {"name": 3}], ids=str)
def test_a_stored_choice_that_is_none(stored):
    with pytest.raises(InvalidConfig, match="A choice is a name, or an object with a name, not"):
        Choice.of(stored)


def test_an_object_with_too_many_fields_is_refused_at_once():
    with pytest.raises(ValidationError) as refused:
        made({"name": "toy", **{f"field{n}": 1 for n in range(1000)}})
    [fault] = refused.value.errors()
    assert "more than 128 fields" in fault["msg"]
