"""Runs on a table: hospitals in one file, one client each."""

import json

import pytest

from client_sdk import exit_codes
from client_sdk.cli import command_line
from client_sdk.cli.run_table import load_table, parse_kinds
from client_sdk.data.splits.by_column import ByColumn
from client_sdk.data.tables.schema import Schema
from client_sdk.errors import DataError, UsageError
from client_sdk.task.model_file import read_metadata
from client_sdk.task.own_data.table_task import TABLE
from tests.support.here import run_here
from tests.support.own_files import LABEL, hospitals


@pytest.fixture
def table(tmp_path):
    """The rows of three hospitals in one file, with a column that names them."""
    lines = []
    for path, name in zip(
        hospitals(tmp_path, (300, 150, 60)), ("north", "south", "east"), strict=True
    ):
        head, *rows = path.read_text().splitlines()
        lines += [f"{name},{row}" for row in rows]
    file = tmp_path / "all.csv"
    file.write_text("\n".join([f"hospital,{head}", *lines]) + "\n")
    return file


def test_a_run_with_a_client_for_each_hospital_learns(table, tmp_path):
    out = tmp_path / "out"
    words = ("--dataset", str(table), "--label", LABEL, "--split", "by-column")
    few = ("--site-column", "hospital", "--rounds", "3", "--local-epochs", "3")
    done = run_here("run", *words, *few, "--out", str(out))
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["totals"]["final_accuracy"] > 0.93  # 0.97; the largest class alone has 0.63
    assert report["evaluation"]["classes"] == ["benign", "malignant"]
    assert {site["site"] for site in report["sites"]["sites"]} == {"north", "south", "east"}
    tested = report["test_sites"]
    assert tested["worst"] <= tested["mean"]
    assert sum(site["held_out"] for site in tested["sites"]) == 102  # all that it tests on
    said = " ".join(done.stdout.split())
    assert f"accuracy on the test set by site, of 3: mean {tested['mean']:.2%}" in said
    about = read_metadata((out / "global.safetensors").read_bytes())
    schema = Schema.from_json(about[TABLE])
    assert "hospital" not in [column.name for column in schema.columns]
    assert f'label = "{LABEL}"' in (out / "config.toml").read_text()


def test_the_split_of_a_table_is_shown(table, tmp_path, capsys):
    words = ("--dataset", table, "--label", LABEL, "--split", "by-column")
    more = ("--site-column", "hospital", "--json", "--out", tmp_path / "s.svg")
    assert command_line.run(["split", *map(str, (*words, *more))]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clients"] == ["east", "north", "south"]
    assert found["classes"] == ["benign", "malignant"]
    assert sum(found["examples"]) == 408  # without a fifth for the test


def test_the_model_learns_from_no_site_and_tests_on_other_rows(table):
    found = load_table(table, LABEL, {}, "mlp", ByColumn(site_column="hospital"), 3)
    again = load_table(table, LABEL, {}, "mlp", ByColumn(site_column="hospital"), 3)
    assert found.task.name == "table-mlp"
    assert (len(found.train), len(found.test), found.examples.count) == (408, 102, 408)
    assert (found.train.x == again.train.x).all()
    assert "hospital" in found.examples.columns
    assert not any("hospital" in name for name in found.task.schema.inputs)


def test_kinds_are_named_on_the_command_line(table):
    assert parse_kinds("a=ignore, b c =category") == {"a": "ignore", "b c": "category"}
    assert parse_kinds(None) == {}
    found = load_table(table, LABEL, {"mean radius": "ignore"}, "auto", None, 0)
    assert "mean radius" not in found.task.schema.inputs
    with pytest.raises(UsageError, match="--kinds is NAME=KIND,NAME=KIND, not 'ignore'"):
        parse_kinds("ignore")


MISTAKES = {
    "no label": ((), "is a table: say with --label which column is to be learnt"),
    "another label": (("--label", "sick"), "has no label 'sick'"),
    "another model": (("--label", LABEL, "--model", "mnist-cnn"), "--model of a table is one of"),
    "no such site": (("--label", LABEL, "--split", "by-column"), "has no column 'site'"),
    "a kind": (("--label", LABEL, "--kinds", "hospital=word"), "can be number, boolean"),
}


@pytest.mark.parametrize(("words", "says"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_sentence(table, tmp_path, capsys, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    code = command_line.run(["split", "--dataset", str(table), *words])
    printed = capsys.readouterr().err
    assert code == exit_codes.USAGE
    assert says in printed
    assert printed.count("\n") == 1


def test_a_table_needs_rows_to_test_on_and_columns_to_learn_from(tmp_path):
    one = tmp_path / "one.csv"
    one.write_text("a,y\n1,x\n")
    with pytest.raises(DataError, match="too few rows"):
        load_table(one, "y", {}, "auto", None, 0)
    one.write_text("site,y\nn,x\ns,z\nn,x\n")
    with pytest.raises(DataError, match="no column to learn from beside the site"):
        load_table(one, "y", {}, "auto", ByColumn(), 0)
