"""A model's file is all that a table's prediction needs."""

from __future__ import annotations

import numpy as np
import pytest

from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import describe, without_scales
from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.model_file import spec_of
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.tools.predict_table import predict_table

ROWS = "age;sick\n10;no\n20;no\n30;yes\n40;yes\n"


@pytest.fixture
def model(tmp_path):
    """Writes a model whose weights are given, as described by a table's text."""

    def write(text, weight, bias, label="sick", change=lambda schema: schema):
        (tmp_path / "like.csv").write_text(text, encoding="utf-8")
        schema = describe(read_table(tmp_path / "like.csv", label), indicators=False)
        task = TableTask(change(schema))
        weights = {"weight": np.array(weight, np.float32), "bias": np.array(bias, np.float32)}
        path = tmp_path / "model.safetensors"
        path.write_bytes(weights_file.write(weights, task.metadata()))
        return path

    return write


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("name,age\nA,45\nB,5\nC,\n", encoding="utf-8")
    return path


def test_each_row_gets_a_class_and_its_probability(model, table):
    # The scaled age, with a mean of 25, decides: e**2 to e**-2 at one deviation.
    found = predict_table(table, model(ROWS, [[-2.0], [2.0]], [0.0, 0.0]))
    assert [(row.row, row.answer) for row in found] == [(1, "yes"), (2, "no"), (3, "no")]
    scaled = 20 / np.sqrt(125)
    assert found[0].probability == pytest.approx(1 / (1 + np.exp(-4 * scaled)), rel=1e-5)
    assert found[2].probability == 0.5


def test_a_number_is_estimated_on_its_own_scale(model, table):
    """The line through (age, cost) = (10, 100.5), ..., (400.5) has the same deviations."""
    text = "age,cost\n10,100.5\n20,200.5\n30,300.5\n40,400.5\n"
    found = predict_table(table, model(text, [[1.0]], [0.0], label="cost"))
    assert [row.answer for row in found] == pytest.approx([450.5, 50.5, 250.5], rel=1e-5)
    assert found[0].probability is None


def test_a_model_without_its_scales_says_where_they_are(model, table):
    path = model(ROWS, [[-2.0], [2.0]], [0.0, 0.0], change=without_scales)
    with pytest.raises(DataError, match="the file that join --out wrote"):
        predict_table(table, path)


def test_a_table_that_does_not_fit_is_named(model, tmp_path):
    (tmp_path / "other.csv").write_text("years,name\n1,A\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column"):
        predict_table(tmp_path / "other.csv", model(ROWS, [[-2.0], [2.0]], [0.0, 0.0]))


def test_export_says_that_it_takes_pictures(model, tmp_path):
    with pytest.raises(DataError, match="a model of tables, not of pictures"):
        spec_of(model(ROWS, [[-2.0], [2.0]], [0.0, 0.0]).read_bytes())
