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

from client_sdk import datasets, models
from client_sdk.datasets import normalise
from client_sdk.predict import Classifier
from client_sdk.train import TrainSettings, train
from tests.e2e.processes import KEY
from tests.page.browser import axe
from tests.page.conftest import create
from tests.some import some

RUN = """async ([at, model, picture]) => {
  const bytes = Uint8Array.from(atob(model), (c) => c.charCodeAt(0));
  const { readModel, forward } = await import(at);
  return [...forward(readModel(bytes), Float32Array.from(picture))];
}"""


@pytest.mark.parametrize(
    ("name", "shape"),
    [("digits-cnn", (1, 8, 8)), ("mnist-cnn", (1, 28, 28)), ("cifar10-cnn", (3, 32, 33))],
)
def test_its_logits_are_pytorchs(server, open_page, name, shape):
    spec = models.spec_for(name, shape, 10)
    network = models.build(spec, 3).eval()
    about = {"model": spec.to_json(), "classes": str(list(range(10)))}
    about |= {"mean": str([0.5] * shape[0]), "std": str([0.5] * shape[0])}
    data = models.to_bytes(network, about)
    picture = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    page = open_page().page
    page.goto(server.url)
    module = page.evaluate("document.querySelector('script[type=module]').src")
    at = module.replace("main.js", "cnn.js")
    encoded = base64.b64encode(data).decode()
    found = page.evaluate(RUN, [at, encoded, picture.flatten().tolist()])
    with torch.no_grad():
        expected = network(picture)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that knows its digits, and what the SDK's own `predict` makes of it."""
    digits = datasets.load("digits", tmp_path_factory.mktemp("nowhere"))
    spec = models.spec_for("auto", digits.shape, 10)
    network = models.build(spec, 0)
    x = normalise(digits.train_x, digits.mean, digits.std)
    settings = TrainSettings(epochs=8, batch_size=20, learning_rate=0.05, momentum=0.5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small batches only wait for each other
    train(network, x, digits.train_y, settings, seed=0)
    torch.set_num_threads(threads)
    path = tmp_path_factory.mktemp("trained") / "model.safetensors"
    path.write_bytes(models.to_bytes(network, models.describe(digits, spec)))
    return path, digits


def test_pictures_are_classified_in_the_tab(server, http, open_page, trained):
    path, digits = trained
    classifier = Classifier.load(path)
    experiment, _ = create(http, "to try", initial=path.read_bytes())
    page = open_page(viewport={"width": 1000, "height": 1000}).page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.get_by_role("heading", name="to try")).to_be_visible()
    expect(page.get_by_role("heading", name="Try the model")).to_have_count(0)
    page.get_by_role("button", name="Admin key").click()
    page.get_by_label("Key", exact=True).fill(KEY)
    page.keyboard.press("Enter")
    page.get_by_role("button", name=re.compile("^Load model 0")).click()
    asked = []
    page.on("request", lambda request: asked.append((request.method, request.url)))
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
