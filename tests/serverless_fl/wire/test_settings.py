"""Settings are declared once: what is read out of the declaration, and what a newcomer needs."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.provenance import config_digest
from serverless_fl.wire.choices import OneOf, plain
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUP_KEY, GROUPS, fault, settings_of, values_of
from tests.support.choices import Toy as ToyStrategy
from tests.support.choices import WithToys


class Toy(ExperimentConfig):
    toy: int = Field(3, ge=1, lt=10, description="A toy", json_schema_extra={GROUP_KEY: "training"})
    word: Literal["a", "b"] | None = Field(
        None, description="A word", json_schema_extra={GROUP_KEY: "data"}
    )


NEEDED = {"dataset": "d", "dataset_size": 100, "model": "m"}
SETTINGS = settings_of(Toy)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_each_has_a_group_and_a_description(setting):
    assert setting.group in GROUPS
    assert setting.description


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("clients", "1 to 100,000"),
        ("toy", "1 to 9"),
        ("word", "a, b"),
        ("quorum", "at least 1"),
        ("momentum", "at least 0, below 1"),
        ("learning_rate", "above 0, at most 1,000"),
        ("norm_action", "clip, reject"),
    ],
)
def test_bounds_are_words(name, bounds):
    assert SETTINGS[name].bounds == bounds


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("toy", 3, None),
        ("toy", 10, "must be a whole number, 1 to 9, not 10"),
        ("toy", True, "must be a whole number, 1 to 9, not true"),
        ("word", None, None),
        ("word", "c", "must be one of a, b, not 'c'"),
        ("learning_rate", 1, None),
        ("learning_rate", float("nan"), "must be a number, above 0, at most 1,000, not nan"),
        ("dataset", "x" * 201, "is not accepted: String should have at most 200 characters"),
    ],
)
def test_a_fault_says_what_is_taken(name, value, says):
    assert fault(Toy, SETTINGS[name], value) == says


DEFAULTS = [field for field in fields(Config) if field.default is not MISSING]


@pytest.mark.parametrize("field", DEFAULTS, ids=lambda field: field.name)
def test_both_sides_have_the_same_default(field):
    default = ExperimentConfig.model_fields[field.name].default
    ours = plain(default) if isinstance(default, BaseModel) else default
    assert ours == Config.defaults()[field.name]


def test_the_coordinator_carries_a_setting_that_its_rules_do_not_read():
    config = Toy(**NEEDED, toy=5, rounds=3).to_config()
    assert config.others == {"toy": 5}
    assert Config.of(config.flat()) == config
    assert Toy(**config.flat()).toy == 5


def test_a_new_setting_at_its_default_changes_no_digest():
    older, newer = ExperimentConfig(**NEEDED).to_config(), Toy(**NEEDED).to_config()
    assert newer == older
    assert config_digest(newer) == config_digest(older)
    assert config_digest(Toy(**NEEDED, toy=4).to_config()) != config_digest(older)


def test_settings_of_alternatives_stand_behind_their_choice():
    found = settings_of(WithToys)
    names = list(found)
    assert names[names.index("strategy") + 1 :][:3] == ["toy_rate", "toy_steps", "toy_word"]
    assert found["strategy"].bounds == "fedavg, toy, other"
    assert found["strategy"].default == "fedavg"
    assert [a.summary for a in found["strategy"].alternatives][1:] == [
        "A toy that takes two settings.",
        "Another toy.",
    ]
    rate = found["toy_rate"]
    assert (rate.group, rate.choice, rate.bounds) == ("strategy", "strategy", "above 0, at most 10")
    assert rate.taken_by == {"toy": 0.5, "other": 0.25}
    assert rate.default_text == "0.5 in toy, 0.25 in other"
    assert found["toy_steps"].default_text == "1"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("strategy", "other", None),
        ("strategy", "othr", "must be one of fedavg, toy, other, not 'othr'"),
        ("strategy", {"name": "toy"}, "must be one of fedavg, toy, other, not {'name': 'toy'}"),
        ("toy_rate", 1, None),
        ("toy_rate", 0, "must be a number, above 0, at most 10, not 0"),
        ("toy_word", None, None),
        ("toy_word", "c", "must be one of a, b, not 'c'"),
    ],
)
def test_a_fault_of_a_choice(name, value, says):
    assert fault(WithToys, settings_of(WithToys)[name], value) == says


def test_values_of_a_chosen_alternative_stand_beside_the_choice():
    found = values_of(WithToys(**NEEDED, strategy=ToyStrategy(toy_rate=2)))
    assert (found["strategy"], found["toy_rate"], found["toy_steps"]) == ("toy", 2, 1)
    assert "toy_word" not in found


def test_two_settings_of_one_name_are_refused():
    class Same(Strategy):
        name: Literal["same"] = "same"
        rounds: int = Field(1, ge=1, description="Rounds")

    with pytest.raises(ValueError, match="two settings have the name rounds"):
        settings_of(with_strategies(ToyStrategy, Same))


def test_alternatives_give_a_setting_the_same_values():
    class Wider(Strategy):
        name: Literal["wider"] = "wider"
        toy_rate: float = Field(0.5, gt=0, le=20, description="A rate")

    with pytest.raises(ValueError, match="toy_rate takes other values in wider than in toy"):
        settings_of(with_strategies(ToyStrategy, Wider))


def with_strategies(*strategies):
    class Declared(ExperimentConfig):
        strategy: Annotated[Strategy, OneOf(strategies)] = Field(
            strategies[0](), json_schema_extra={GROUP_KEY: "strategy", "default": "toy"}
        )

    return Declared


CHOICES = [setting for setting in settings_of(ExperimentConfig).values() if setting.alternatives]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda setting: setting.name)
def test_each_alternative_has_words_and_defaults(choice):
    for alternative in choice.alternatives:
        assert alternative.summary.endswith(".")
        assert len(alternative.summary) <= 150
        for setting in alternative.settings.values():
            assert setting.description
            assert setting.bounds or setting.kind == "boolean"
            assert not setting.required
    assert choice.default in choice.choices
