"""What a turn tells of the training is what the group `training` declares."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from app.api.bodies import clients
from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.domain.experiment import Config
from serverless_fl.wire.choices import OneOf
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUP_KEY, settings_of
from serverless_fl.wire.turns import NOT_TOLD, Training, training_of
from tests.support.choices import TOYS, Toy

NEEDED = {"dataset": "d", "dataset_size": 100, "model": "m"}
OLD = {"local_epochs": 1, "batch_size": 10, "learning_rate": 0.1, "momentum": 0.5, "seed": 3}


class WithToy(ExperimentConfig):
    toy: int = Field(3, ge=1, lt=10, description="A toy", json_schema_extra={GROUP_KEY: "training"})
    chosen: Annotated[Strategy, OneOf(TOYS)] = Field(
        Toy(), description="A choice", json_schema_extra={GROUP_KEY: "training", "default": "toy"}
    )
    elsewhere: int = Field(1, ge=1, description="x", json_schema_extra={GROUP_KEY: "schedule"})


TOLD = training_of(WithToy)


def test_the_settings_of_the_group_are_told():
    declared = settings_of(ExperimentConfig)
    names = [name for name, s in declared.items() if s.group == "training" and not s.choice]
    assert list(Training.model_fields) == [name for name in names if name not in NOT_TOLD]
    assert TOLD.model_fields.keys() - Training.model_fields.keys() == {"toy", "chosen"}


def test_a_bound_is_that_of_the_declaration():
    assert TOLD(**OLD, toy=9).toy == 9
    assert TOLD(**OLD, chosen={"name": "toy", "toy_rate": 2}).chosen == Toy(toy_rate=2)
    for wrong in ({"toy": 10}, {"chosen": {"name": "toy", "toy_rate": 0}}, {"chosen": "gone"}):
        with pytest.raises(ValidationError):
            TOLD(**OLD, **wrong)


def test_an_older_coordinator_tells_less_and_a_newer_one_more():
    older, newer = TOLD(**OLD), Training(**OLD, toy=5)
    assert (older.toy, older.chosen, older.weight_decay) == (3, Toy(), 0.0)
    assert newer == Training(**OLD)


@pytest.mark.parametrize("missing", OLD)
def test_what_every_coordinator_tells_must_be_there(missing):
    told = {name: value for name, value in OLD.items() if name != missing}
    with pytest.raises(ValidationError):
        Training(**told)


def test_the_coordinator_tells_what_its_rules_do_not_read():
    """It keeps such a setting only if that differs from its default."""
    config = WithToy(**NEEDED, toy=5, chosen=Toy(toy_rate=2)).to_config()
    kept = Config.of(config.flat()).some(TOLD.model_fields)
    assert TOLD(**kept) == TOLD(
        **{n: v for n, v in config.flat().items() if n in Training.model_fields and n != "toy"},
        toy=5,
        chosen=Toy(toy_rate=2),
    )
    plain = WithToy(**NEEDED).to_config().some(TOLD.model_fields)
    assert TOLD(**plain).toy == 3
    assert tuple(Training.model_fields) == clients._TOLD
