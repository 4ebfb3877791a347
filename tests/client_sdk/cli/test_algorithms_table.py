"""docs/algorithms.md is made from the strategies, and an experiment can have settings for all."""

import re
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from client_sdk.cli import algorithms_table
from serverless_fl.aggregation import STRATEGIES
from serverless_fl.aggregation.fedavg import FedAvg
from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.wire.choices import OneOf
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUP_KEY, settings_of

PAGE = Path(__file__).parents[3] / "docs" / "algorithms.md"
ALL = STRATEGIES


class WithAll(ExperimentConfig):
    strategy: Annotated[Strategy, OneOf(ALL)] = Field(
        FedAvg(),
        description="How updates are aggregated",
        json_schema_extra={GROUP_KEY: "strategy", "default": "fedavg"},
    )


def test_the_page_is_what_the_command_prints():
    assert PAGE.read_text(encoding="utf-8") == algorithms_table.page(), (
        "print it again: python -m client_sdk.cli.algorithms_table > docs/algorithms.md"
    )


@pytest.mark.parametrize("strategy", ALL)
def test_the_page_has_each_strategys_paper_use_and_settings(strategy):
    page = algorithms_table.page([strategy])
    assert re.search(r"arXiv:\d{4}\.\d{5}", page)
    row = next(line for line in page.splitlines() if line.startswith(f"| [{strategy.__name__}]"))
    assert all(cell.strip() for cell in row.split("|")[1:-1])
    for name in strategy.model_fields.keys() - {"name"}:
        assert f"| `{name}` |" in page


def test_a_strategy_without_a_paper_is_named():
    class Toy(Strategy):
        """A toy.

        Choose it when you play.
        """

        name: str = "toy"

    with pytest.raises(ValueError, match=r"Toy has no paragraph with 'arXiv:'"):
        algorithms_table.page([Toy])


def test_settings_of_one_name_have_one_range():
    """A flag and a key of TOML stand for all strategies that take the setting."""
    found = settings_of(WithAll)["strategy"].alternatives
    assert [alternative.name for alternative in found] == [
        strategy.model_fields["name"].default for strategy in ALL
    ]
    assert all(s.description for a in found for s in a.settings.values())


@pytest.mark.parametrize("strategy", ALL)
def test_every_strategy_has_a_default_for_each_setting(strategy):
    name = strategy.model_fields["name"].default
    config = {"dataset": "d", "dataset_size": 100, "model": "m"}
    assert WithAll(**config, strategy=name).strategy == strategy(name=name)
