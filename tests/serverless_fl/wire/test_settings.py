"""Settings are declared once: what is read out of the declaration, and what a newcomer needs."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.provenance import config_digest
from serverless_fl.wire.choices import plain
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUP_KEY, GROUPS, fault, settings_of


class Toy(ExperimentConfig):
    toy: int = Field(3, ge=1, lt=10, description="A toy", json_schema_extra={GROUP_KEY: "training"})
    word: Literal["a", "b"] | None = Field(
        None, description="A word", json_schema_extra={GROUP_KEY: "data"}
    )


NEEDED = {"dataset": "d", "dataset_size": 100, "model": "m"}
SETTINGS = settings_of(Toy)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=str)
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
        ("strategy", "fedavg"),
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
