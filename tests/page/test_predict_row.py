"""A row of a table in the page: the models of tables in JavaScript are those of PyTorch."""

from __future__ import annotations

import base64
import json
import re

import pytest
from playwright.sync_api import expect

from client_sdk.data.tables.schema import ColumnSchema, Scale, Schema, without_scales
from client_sdk.task import weights_file
from client_sdk.task.own_data.table_site import agreement_of
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.tools.predict_table import predict_table
from serverless_fl.domain.agreement import metadata_of, published
from serverless_fl.wire.agreement import ScaleView
from tests.support.browser import axe, give_key
from tests.support.plain_http import create

COLUMNS = (
    ColumnSchema("age", "number", (), Scale(50.0, 12.5), True),
    ColumnSchema("sex", "category", ("f", "m"), None, True),
    ColumnSchema("smokes", "boolean", (), Scale(0.3, 0.45)),
    ColumnSchema("height (cm)", "number", (), Scale(170.0, 9.0)),
)
CLASSES = Schema(COLUMNS, "diagnosis", ("benign", "malignant", "unclear"))
NUMBER = Schema(COLUMNS, "price", None, Scale(1000.0, 250.0))
ROWS = [
    {"age": 61, "sex": "f", "smokes": 1, "height (cm)": 171},
    {"age": None, "sex": "m", "smokes": 0, "height (cm)": 182.5},
    {"age": 19, "sex": None, "smokes": None, "height (cm)": None},
    {"age": 1e30, "sex": "x", "smokes": 1, "height (cm)": 150},
]
RUN = """async (load, model, rows) => {
  const bytes = Uint8Array.from(atob(model), (c) => c.charCodeAt(0));
  const { answer, readTableModel } = await load("table.js");
  try {
    return rows.map((row) => answer(readTableModel(bytes), row));
  } catch (error) {
    return error.message;
  }
}"""


def model_of(schema: Schema, network: str, **more: str) -> bytes:
    task = TableTask(schema, network)
    return weights_file.write(task.initial(3), task.metadata() | more)


def agreed(schema: Schema) -> bytes:
    """A model whose scales the parties' sums have fixed: they stand beside the description."""
    task = TableTask(without_scales(schema), "linear")
    columns = {column.name: column.scale for column in schema.columns}
    scales = [
        ScaleView(column=name, mean=scale.mean, deviation=scale.deviation, count=9)
        for name, scale in (columns | {schema.label: schema.label_scale}).items()
        if scale is not None
    ]
    metadata = metadata_of(agreement_of(task, federated=True))
    return weights_file.write(task.initial(3), task.metadata() | published(metadata, scales))


def test_its_answers_are_those_of_the_command(modules, tmp_path):
    table = tmp_path / "rows.csv"
    lines = [",".join(ROWS[0]), *(",".join(map(cell, row.values())) for row in ROWS)]
    table.write_text("\n".join(lines) + "\n")
    models = [model_of(s, n) for s in (CLASSES, NUMBER) for n in ("linear", "mlp")]
    for data in [*models, agreed(CLASSES), agreed(NUMBER)]:
        path = tmp_path / "model.safetensors"
        path.write_bytes(data)
        found = modules(RUN, base64.b64encode(data).decode(), ROWS)
        for row, said in zip(predict_table(table, path), found, strict=True):
            if row.probability is None:
                assert said["estimate"] == pytest.approx(row.answer, rel=1e-4)
            else:
                assert said["classes"][0] == [row.answer, pytest.approx(row.probability, rel=1e-4)]
    early = weights_file.write(
        TableTask(CLASSES).initial(0), TableTask(without_scales(CLASSES)).metadata()
    )
    for data, reason in ((early, "have not fixed the means"), (b"\0" * 9, "not a safetensors")):
        assert reason in modules(RUN, base64.b64encode(data).decode(), ROWS)


def cell(value) -> str:
    return "" if value is None else json.dumps(value).strip('"')


def test_a_row_is_filled_in_and_answered_in_the_tab(server, http, open_page):
    experiment, _ = create(http, "a table", initial=model_of(CLASSES, "linear"))
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    give_key(page)
    tried = page.get_by_role("region", name="Try the model")
    tried.get_by_role("button", name=re.compile("^Load model 0")).click()
    tried.get_by_label("height (cm)").fill("171")
    expect(tried.locator(".guesses li")).to_have_count(3)
    shares = tried.locator(".guesses .num")
    before = shares.all_inner_texts()
    tried.get_by_label("sex").select_option("f")
    tried.get_by_label("smokes").select_option("yes")
    expect(shares.first).not_to_have_text(before[0])
    assert axe(page) == []
    for label in ("height (cm)", "sex", "smokes"):
        control = tried.get_by_label(label)
        control.fill("") if label == "height (cm)" else control.select_option("missing")
    expect(tried.locator(".guesses li")).to_have_count(0)
