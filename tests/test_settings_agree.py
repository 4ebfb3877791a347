"""The settings in `--help`, in the API's schema and in docs/settings.md are the same ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import Field

from app.config import Settings
from app.main import create_app
from client_sdk.cli import settings_table
from client_sdk.cli.arguments import make_parser
from client_sdk.cli.run_settings import RunSettings
from client_sdk.cli.settings import TITLES, default_text, effective, flag_of, shown_settings
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUP_KEY, GROUPS, listed, settings_in, settings_of
from tests.support.choices import WithToys

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


class Toy(ExperimentConfig):
    toy: int = Field(3, ge=1, le=9, description="A toy", json_schema_extra={GROUP_KEY: "training"})


@pytest.fixture
def help_of_run(capsys, monkeypatch):
    """The help of `run`, its options' words with single spaces, by flag."""
    monkeypatch.setenv("COLUMNS", "200")

    def read(declared=ExperimentConfig):
        with pytest.raises(SystemExit):
            make_parser(declared).parse_args(["run", "--help"])
        text = capsys.readouterr().out
        entries = re.findall(r"^  (--[a-z0-9-]+) (.*(?:\n    .*)*)", text, re.MULTILINE)
        return {flag: " ".join(words.split()).casefold() for flag, words in entries}, text

    return read


@pytest.mark.parametrize("declared", [RunSettings, WithToys])
def test_help_says_what_is_declared(help_of_run, declared):
    told, text = help_of_run(declared)
    titles = [f"\n{title}:\n" for title in [*TITLES.values(), "this machine"]]
    starts = [text.index(title) for title in titles]
    assert starts == sorted(starts)
    for setting in shown_settings(declared):
        words = told[flag_of(setting.name)]
        place, group = text.index(f"\n  {flag_of(setting.name)} "), GROUPS.index(setting.group)
        assert starts[group] < place < starts[group + 1]
        assert setting.description.casefold() in words
        assert default_text(setting) in words
        if setting.alternatives:
            for alternative in setting.alternatives:
                line = rf"^    {alternative.name} +{re.escape(alternative.summary)}$"
                assert re.search(line, text, re.MULTILINE)
        elif setting.choices:
            assert ",".join(setting.choices) in words
        else:
            assert setting.bounds in words
        if setting.choice:
            assert text.index(f": settings of {listed(setting.taken_by)}:\n") < text.index(
                f"\n  {flag_of(setting.name)} "
            )


def test_the_page_and_the_help_have_the_same_settings(help_of_run):
    """Those of each choice's alternatives, too: `run` takes no flag that the page does not have."""
    told, _ = help_of_run(RunSettings)
    page = settings_table.page()
    parts = dict(re.findall(r"^(##.*)\n([^#]*)", page, re.MULTILINE))
    assert [title for title in parts if title.startswith("## [")] == [
        f"## [{group}]: {title}" for group, title in TITLES.items()
    ]
    shown = shown_settings(RunSettings)
    for choice in (setting for setting in shown if setting.alternatives):
        for alternative in choice.alternatives:
            rows = re.findall(
                r"^\| `(--[\w-]+)`", parts[f"### {choice.name} = {alternative.name}"], re.MULTILINE
            )
            assert rows == [flag_of(name) for name in alternative.settings]
    on_page = set(re.findall(r"^\| `(--[\w-]+)`", page, re.MULTILINE))
    assert on_page == {flag_of(setting.name) for setting in shown}
    assert on_page <= told.keys()


def test_the_page_is_what_the_command_prints():
    assert PAGE.read_text(encoding="utf-8") == settings_table.page(), (
        "print it again: python -m client_sdk.cli.settings_table > docs/settings.md"
    )


def test_the_api_describes_the_same(tmp_path):
    app = create_app(Settings(data_dir=tmp_path, admin_key="k" * 32))
    schemas = app.openapi()["components"]["schemas"]
    described = settings_in(schemas["ExperimentConfig"], schemas)
    ours = settings_of(ExperimentConfig)
    assert list(described) == list(ours)
    for name, told in described.items():
        assert rounded(told) == rounded(ours[name])


def rounded(setting):
    """FastAPI writes bounds as floats; a seed's is rounded by that."""
    bounds = ("minimum", "above", "maximum", "below")
    found = {b: getattr(setting, b) for b in bounds if getattr(setting, b) is not None}
    return replace(setting, **{bound: float(n) for bound, n in found.items()})


def test_a_setting_that_is_declared_once_is_everywhere(help_of_run, tmp_path):
    assert help_of_run(Toy)[0]["--toy"] == "n a toy (1 to 9; default: 3)"
    assert "| `--toy` | `toy` | 3 | 1 to 9 | A toy |" in settings_table.page(Toy)
    (tmp_path / "my.toml").write_text("[training]\ntoy = 4\n", encoding="utf-8")
    arguments = make_parser(Toy).parse_args(["run", "--config", str(tmp_path / "my.toml")])
    of_data = {"dataset": "d", "dataset_size": 100, "model": "m"}
    assert effective(arguments.settings, **of_data).toy == 4
    assert arguments.settings.in_own_words("toy (4)").startswith("toy in ")
    assert settings_of(Toy).keys() - settings_of(ExperimentConfig).keys() == {"toy"}


def test_an_alternative_that_is_declared_once_is_everywhere(tmp_path):
    page = settings_table.page(WithToys)
    assert (
        "### strategy = toy\n\nA toy that takes two settings.\n\n"
        "| flag | key | default | values | what it does |\n|---|---|---|---|---|\n"
        "| `--toy-rate` | `toy_rate` | 0.5 | above 0, at most 10 | A rate |\n"
        "| `--toy-steps` | `toy_steps` | 1 | 1 to 9 | Steps |\n"
    ) in page
    assert "| `--toy-rate` | `toy_rate` | 0.25 | above 0, at most 10 | A rate |" in page
    file = tmp_path / "my.toml"
    file.write_text('[strategy]\nname = "toy"\ntoy_rate = 1\n', encoding="utf-8")
    arguments = make_parser(WithToys).parse_args(["run", "--config", str(file), "--toy-steps", "2"])
    of_data = {"dataset": "d", "dataset_size": 100, "model": "m"}
    found = effective(arguments.settings, **of_data)
    assert found.strategy.model_dump() == {"name": "toy", "toy_rate": 1.0, "toy_steps": 2}
