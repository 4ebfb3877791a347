"""Descriptions of tables travel in model files, and a stranger may have written one."""

import json

import pytest

from client_sdk.data.tables import schema as schemas
from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import ColumnSchema, Scale, Schema, describe, without_scales
from client_sdk.errors import DataError

ROWS = "age,sex,smokes,sick\n60,f,yes,ill\n40,m,no,well\n,m,,well\n"


@pytest.fixture
def table(tmp_path):
    (tmp_path / "a.csv").write_text(ROWS)
    return read_table(tmp_path / "a.csv", "sick")


def test_a_description_has_what_the_table_has(table):
    assert describe(table) == Schema(
        (
            ColumnSchema("age", "number", scale=Scale(50.0, 10.0), indicator=True),
            ColumnSchema("sex", "category", ("f", "m")),
            ColumnSchema("smokes", "boolean", scale=Scale(0.5, 0.5), indicator=True),
        ),
        "sick",
        ("ill", "well"),
    )


def test_inputs_have_names_in_order(table):
    assert describe(table).inputs == (
        *("age", "age is missing", "sex=f", "sex=m", "sex=(other)"),
        *("smokes", "smokes is missing"),
    )
    assert describe(table, indicators=False).inputs == (
        *("age", "sex=f", "sex=m", "sex=(other)", "smokes"),
    )
    assert describe(table).numeric == ("age", "smokes")


def test_a_label_of_numbers_has_a_scale_and_no_classes(tmp_path):
    (tmp_path / "a.csv").write_text("age,stay\n1,10.5\n2,11.5\n")
    found = describe(read_table(tmp_path / "a.csv", "stay"))
    assert (found.classes, found.label_scale) == (None, Scale(11.0, 0.5))
    assert found.numeric == ("age", "stay")
    assert Schema.from_json(found.to_json()) == found


def test_it_is_the_same_after_json(table):
    for found in (describe(table), without_scales(describe(table))):
        assert Schema.from_json(found.to_json()) == found
        assert Schema.from_json(found.to_json()).to_json() == found.to_json()


def test_a_table_without_a_label_cannot_be_described(tmp_path):
    (tmp_path / "a.csv").write_text(ROWS)
    with pytest.raises(DataError, match="say which column is the label"):
        describe(read_table(tmp_path / "a.csv"))


GOOD = {
    "columns": [
        {"name": "age", "kind": "number", "mean": 1, "deviation": 2},
        {"name": "sex", "kind": "category", "categories": ["f", "m"], "indicator": True},
    ],
    "label": {"name": "sick", "classes": ["0", "1"]},
}


def changed(**changes):
    """The good description with one value changed: `first`, `second` of a column, `label`."""
    found = json.loads(json.dumps(GOOD))
    places = {"first": found["columns"][0], "second": found["columns"][1], "label": found["label"]}
    for place, values in changes.items():
        places[place].update(values)
    return json.dumps(found)


STRANGE = {
    "no JSON": "{",
    "a list": "[]",
    "a number": "1",
    "deep": "[" * 100_000,
    "no columns": json.dumps({**GOOD, "columns": []}),
    "columns of text": json.dumps({**GOOD, "columns": ["a"]}),
    "no label": json.dumps({"columns": GOOD["columns"]}),
    "a label of text": json.dumps({**GOOD, "label": "sick"}),
    "a kind of its own": changed(first={"kind": "date"}),
    "a name that is a number": changed(first={"name": 7}),
    "a name that is empty": changed(first={"name": ""}),
    "a name that moves the cursor": changed(first={"name": "a\x1b[2J"}),
    "a name that is too long": changed(first={"name": "a" * 201}),
    "a name twice": changed(second={"name": "age"}),
    "a column called as the label": changed(first={"name": "sick"}),
    "a category twice": changed(second={"categories": ["f", "f"]}),
    "a category of numbers": changed(second={"categories": [1]}),
    "categories in a text": changed(second={"categories": "ff"}),
    "too many categories": changed(second={"categories": [f"c{n}" for n in range(1001)]}),
    "categories of a number": changed(first={"categories": ["f"]}),
    "a mean of a category": changed(second={"mean": 1, "deviation": 1}),
    "a mean without a deviation": changed(label={}, first={"mean": 1}).replace(
        ', "deviation": 2', ""
    ),
    "an infinite mean": changed(first={"mean": float("inf")}),
    "no mean": changed(first={"mean": float("nan")}),
    "a mean that is true": changed(first={"mean": True}),
    "a mean beyond a float": changed(first={"mean": 0}).replace(": 0,", ": 1" + "0" * 400 + ","),
    "no deviation": changed(first={"deviation": 0}),
    "a negative deviation": changed(first={"deviation": -1}),
    "an indicator that is 1": changed(first={"indicator": 1}),
    "no classes": changed(label={"classes": []}),
    "a class twice": changed(label={"classes": ["a", "a"]}),
    "too many classes": changed(label={"classes": [f"c{n}" for n in range(8193)]}),
    "a mean of classes": changed(label={"mean": 1, "deviation": 1}),
    "too long": " " * schemas.MAX_TEXT + json.dumps(GOOD),
    "too wide": json.dumps(
        {
            **GOOD,
            "columns": [
                {"name": f"{n}", "kind": "category", "categories": [f"{c}" for c in range(1000)]}
                for n in range(101)
            ],
        }
    ),
}


def test_the_description_that_the_strange_ones_are_made_of_is_good():
    assert Schema.from_json(json.dumps(GOOD)).inputs[0] == "age"


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_a_strangers_description_is_refused_in_one_plain_sentence(text):
    with pytest.raises(DataError, match="description of the table") as found:
        Schema.from_json(text)
    assert "\x1b" not in str(found.value)
    assert len(str(found.value)) < 400
