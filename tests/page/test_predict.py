"""The network in JavaScript is the network in PyTorch."""

from __future__ import annotations

import base64
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

from client_sdk.data import datasets
from client_sdk.task import model_file, models
from client_sdk.tools.predict import Classifier
from tests.support.browser import axe, give_key
from tests.support.plain_http import create
from tests.support.some import some
from tests.support.trained import trained_on

RUN = """async (load, model, picture) => {
  const bytes = Uint8Array.from(atob(model), (c) => c.charCodeAt(0));
  const { readModel, forward } = await load("cnn.js");
  return [...forward(readModel(bytes), Float32Array.from(picture))];
}"""


@pytest.mark.parametrize(
    ("name", "shape"),
    [("digits-cnn", (1, 8, 8)), ("mnist-cnn", (1, 28, 28)), ("cifar10-cnn", (3, 32, 33))],
)
def test_its_logits_are_pytorchs(modules, name, shape):
    spec = models.spec_for(name, shape, 10)
    network = models.build(spec, 3).eval()
    about = {"model": spec.to_json(), "classes": str(list(range(10)))}
    about |= {"mean": str([0.5] * shape[0]), "std": str([0.5] * shape[0])}
    data = model_file.to_bytes(network, about)
    picture = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    found = modules(RUN, base64.b64encode(data).decode(), picture.flatten().tolist())
    with torch.no_grad():
        expected = network(picture)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that knows its digits, and what the SDK's own `predict` makes of it."""
    digits = datasets.load("digits", tmp_path_factory.mktemp("nowhere"))
    path = tmp_path_factory.mktemp("trained") / "model.safetensors"
    path.write_bytes(trained_on(digits, len(digits.train_y), 8))
    return path, digits


def test_pictures_are_classified_in_the_tab(server, http, open_page, trained):
    path, digits = trained
    classifier = Classifier.load(path)
    experiment, _ = create(http, "to try", initial=path.read_bytes())
    page = open_page(viewport={"width": 1000, "height": 1000}).page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.get_by_role("heading", name="to try")).to_be_visible()
    expect(page.get_by_role("heading", name="Try the model")).to_have_count(0)
    give_key(page)
    asked = []
    page.on("request", lambda request: asked.append((request.method, request.url)))
    page.get_by_role("button", name=re.compile("^Load model 0")).click()
    same = 0
    for n in range(10):
        image = Image.fromarray(digits.test_x[n, 0].numpy()).resize(
            (280, 280), Image.Resampling.BOX
        )
        file = BytesIO()
        image.save(file, "PNG")
        picture = {"name": "digit.png", "mimeType": "image/png", "buffer": file.getvalue()}
        page.get_by_role("button", name="Clear").click()
        page.get_by_label("Draw, or choose a picture").set_input_files(picture)
        expect(page.locator(".guesses li")).to_have_count(3)
        same += page.locator(".guesses b").first.inner_text() == classifier.predict(image)[0][0]
    assert same >= 9  # the two scale pictures by filters of their own
    assert all(method == "GET" for method, _ in some(asked))  # no picture went anywhere
    page.get_by_role("button", name="Clear").click()
    box = page.locator("canvas").bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] - 30, steps=5)
    page.mouse.up()
    expect(page.locator(".guesses b").first).to_have_text("1")
    assert axe(page) == []


INPUT = """async (load, model, picture) => {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const { readModel } = await load("cnn.js");
  const { inputOf } = await load("picture.js");
  const found = await createImageBitmap(new Blob([bytes(picture)]));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [found.width, found.height];
  canvas.getContext("2d").drawImage(found, 0, 0);
  try {
    return [...inputOf(canvas, readModel(bytes(model)))];
  } catch (error) {
    return error.message;
  }
}"""


def model_for(shape, **changes):
    spec = models.spec_for("auto", shape, 2)
    about = {"model": spec.to_json(), "dataset": "pets", "classes": '["cat", "dog"]'}
    about |= {"mean": str([0.5] * shape[0]), "std": str([0.25] * shape[0]), **changes}
    return model_file.to_bytes(models.build(spec, 0), about)


def input_on_the_page(modules, model, image):
    file = BytesIO()
    image.save(file, "PNG")
    return modules(INPUT, *(base64.b64encode(data).decode() for data in (model, file.getvalue())))


@pytest.mark.parametrize("changes", [{}, {"fit": "crop"}, {"fit": "letterbox"}])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_fitted_as_the_model_file_says(modules, channels, changes):
    bars = np.full((40, 120, 3), (60, 120, 180), np.uint8)
    bars[:, :40], bars[:, -40:] = (250, 10, 20), (20, 10, 250)
    model, image = model_for((channels, 16, 16), **changes), Image.fromarray(bars)
    expected = Classifier.parse(model, "it").prepare(image).flatten().numpy()
    found = input_on_the_page(modules, model, image)
    assert np.abs(expected).min() > 0.01  # neither is all alike, nor near the tolerance
    close = np.abs(np.array(found) - expected) < 0.1
    assert close.mean() > 0.85  # where colours meet, the two scale by filters of their own


@pytest.mark.parametrize(
    ("shape", "changes", "says"),
    [((4, 16, 16), {}, "4 channels"), ((1, 16, 16), {"fit": "fold"}, "newer version")],
)
def test_a_model_that_the_page_cannot_serve_is_said(modules, shape, changes, says):
    message = input_on_the_page(modules, model_for(shape, **changes), Image.new("L", (9, 9)))
    assert says in message


def test_a_picture_of_16_bits_is_left_to_the_sdk(server, http, open_page, trained):
    path, _ = trained
    experiment, _ = create(http, "deep", initial=path.read_bytes())
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    give_key(page)
    page.get_by_role("button", name=re.compile("^Load model 0")).click()
    expect(page.get_by_text("command predict leaves out shades")).to_be_visible()
    file = BytesIO()
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(file, "PNG")
    picture = {"name": "deep.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.get_by_label("Draw, or choose a picture").set_input_files(picture)
    expect(page.get_by_text("16 bits a channel")).to_be_visible()
    expect(page.locator(".guesses li")).to_have_count(0)
