"""Exported models in the page, through ONNX Runtime Web itself.

Three exports and 14 MB of WebAssembly take some ten seconds: what they give can be seen nowhere
else.
"""

from __future__ import annotations

import base64
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect
from torch import nn

from client_sdk.data import datasets
from client_sdk.task import weights_file
from client_sdk.task.torch_task import TorchTask
from client_sdk.tools.export import export, export_task
from client_sdk.tools.predict import Classifier
from client_sdk.tools.predict_table import predict_table
from tests.page.conftest import Brisk
from tests.page.test_predict_row import CLASSES, ROWS, cell, model_of
from tests.support.browser import axe, give_key
from tests.support.onnx_web import runtime_folder
from tests.support.plain_http import create
from tests.support.trained import trained_on

ASK = """async (load, model, rows) => {
  const { readOnnx } = await load("onnx.js");
  const { ask } = await readOnnx(Uint8Array.from(atob(model), (c) => c.charCodeAt(0)));
  return Promise.all(rows.map(ask));
}"""
FAULT = """async (load, model) => {
  const { readOnnx } = await load("onnx.js");
  return readOnnx(Uint8Array.from(model)).then(() => "", (error) => error.message);
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A coordinator whose operator has provided ONNX Runtime Web."""
    folder = tmp_path_factory.mktemp("coordinator")
    with Brisk(FL_DATA_DIR=str(folder), FL_ONNX_DIR=str(runtime_folder())) as server:
        yield server


def file_of(name: str, data: bytes) -> dict[str, object]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def png_of(image) -> dict[str, object]:
    file = BytesIO()
    image.save(file, "PNG")
    return {"name": "digit.png", "mimeType": "image/png", "buffer": file.getvalue()}


def tried_on(page, server, experiment):
    page.goto(f"{server.url}/#/experiments/{experiment}")
    give_key(page)
    return page.get_by_role("region", name="Try the model")


def test_a_tables_answers_are_those_of_the_command(modules, tmp_path):
    data = model_of(CLASSES, "mlp")
    model, table = tmp_path / "model.safetensors", tmp_path / "rows.csv"
    model.write_bytes(data)
    lines = [",".join(ROWS[0]), *(",".join(map(cell, row.values())) for row in ROWS)]
    table.write_text("\n".join(lines) + "\n")
    exported = export(data, "onnx", normalise=True)
    found = modules(ASK, base64.b64encode(exported).decode(), ROWS)
    for row, said in zip(predict_table(table, model), found, strict=True):
        assert said["classes"][0] == [row.answer, pytest.approx(row.probability, rel=1e-4)]


def test_a_picture_goes_through_an_exported_network(server, http, open_page, tmp_path):
    digits = datasets.load("digits", tmp_path)
    data = trained_on(digits, len(digits.train_y), 3)
    experiment, _ = create(http, "to try")
    page = open_page(viewport={"width": 1000, "height": 1000}).page
    tried = tried_on(page, server, experiment)
    asked = []
    page.on("request", lambda request: asked.append(request.method))
    model = file_of("digits.onnx", export(data, "onnx"))
    tried.get_by_label("An exported model (ONNX)").set_input_files(model)
    expect(tried.get_by_text("digits.onnx is in this tab.")).to_be_visible()
    classifier = Classifier.parse(data, "it")
    same = 0
    for n in range(5):
        pixels = digits.test_x[n, 0].numpy()
        image = Image.fromarray(pixels).resize((280, 280), Image.Resampling.BOX)
        tried.get_by_role("button", name="Clear").click()
        tried.get_by_label("Draw, or choose a picture").set_input_files(png_of(image))
        expect(tried.locator(".guesses li")).to_have_count(3)
        same += tried.locator(".guesses b").first.inner_text() == classifier.predict(image)[0][0]
    assert same >= 4  # the two scale pictures by filters of their own
    assert set(asked) == {"GET"}  # neither the model nor a picture went anywhere
    assert axe(page) == []


def test_a_row_of_numbers_of_a_task_of_ones_own(server, http, open_page):
    task = TorchTask(lambda: nn.Linear(2, 3), classes=["ash", "birch", "cedar"], name="trees")
    weights = task.initial(1)
    made = weights_file.write(weights, task.metadata())
    experiment, _ = create(http, "trees", made)
    page = open_page().page
    tried = tried_on(page, server, experiment)
    expect(tried).to_contain_text("--task MODULE:NAME --like INPUTS")
    expect(tried.get_by_role("button", name=re.compile("^Load model"))).to_be_hidden()
    exported = export_task(task, made, "onnx", lambda: np.eye(2, dtype=np.float32))
    page.evaluate(DROP, [base64.b64encode(exported).decode(), "trees.onnx"])
    tried.get_by_label("number 1").fill("2")
    tried.get_by_label("number 2").fill("-1")
    with torch.no_grad():
        shares = task.model(weights)(torch.tensor([[2.0, -1.0]])).softmax(1)[0].tolist()
    best = max(range(3), key=shares.__getitem__)
    first = tried.locator(".guesses li").first
    expect(first.locator("b")).to_have_text(("ash", "birch", "cedar")[best])
    expect(first.locator(".num")).to_have_text(f"{shares[best]:.1%}")
    assert axe(page) == []


DROP = """([model, name]) => {
  const bytes = Uint8Array.from(atob(model), (c) => c.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  const place = document.getElementById("predict-onnx").closest("section");
  place.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no model", "not an ONNX file"),
        (b"\x0a\xff", "not an ONNX file"),
        (b"", "ONNX Runtime cannot read this model"),
    ],
)
def test_what_is_no_model_is_said(modules, data, says):
    assert says in modules(FAULT, list(data))


def test_a_page_without_the_runtime_says_whose_turn_it_is(new_server, open_page):
    with new_server.as_admin() as http:
        experiment, _ = create(http, "without", model_of(CLASSES, "linear"))
    page = open_page().page
    tried = tried_on(page, new_server, experiment)
    expect(tried).to_contain_text("its operator sets FL_ONNX_DIR")
    expect(tried.get_by_label("An exported model (ONNX)")).to_have_count(0)
