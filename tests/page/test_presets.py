"""The initial weights that the page makes are those that the SDK makes of the same seed."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from client_sdk.data import cifar10, datasets
from client_sdk.data.seeds import derive_seed
from client_sdk.simulation.simulate import initial_model
from client_sdk.task.model_file import Description
from client_sdk.task.models import spec_for
from client_sdk.task.pictures import PictureTask, picture_task
from tests.support.datasets import SHARED, needs_mnist

MADE = """async (load, name, seed) => {
    const { PRESETS, initialModel } = await load("presets.js");
    const data = initialModel(PRESETS[name], seed);
    let text = "";
    for (let at = 0; at < data.length; at += 2 ** 15) {
        text += String.fromCharCode(...data.subarray(at, at + 2 ** 15));
    }
    return btoa(text);  // a list of ten million numbers takes Playwright half a minute
}"""


def made(modules, name, seed):
    """The file that the page makes, and the task that it describes."""
    data = base64.b64decode(modules(MADE, name, seed))
    return data, PictureTask(Description.read(data, "The page's model"))


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10"])
@pytest.mark.parametrize("seed", [0, 2**31 + 7])
def test_the_weights_are_the_sdks_byte_for_byte(modules, name, seed):
    data, task = made(modules, name, seed)
    assert data == initial_model(task, seed)


def test_the_digits_describe_themselves_as_the_sdk_does(modules):
    about = made(modules, "digits", 0)[1].about
    known = datasets.load("digits", Path("nowhere"))
    assert (about.dataset, about.classes, about.preparation) == (
        *(known.name, known.classes, known.preparation),
    )
    assert (about.mean, about.std) == (pytest.approx(known.mean), pytest.approx(known.std))
    assert about.spec == picture_task(known).about.spec


@needs_mnist
def test_mnist_describes_itself_as_the_sdk_does(modules):
    about = made(modules, "mnist", 0)[1].about
    known = datasets.load("mnist", SHARED)
    assert (about.classes, about.preparation) == (known.classes, known.preparation)
    assert (about.mean, about.std) == (pytest.approx(known.mean), pytest.approx(known.std))
    assert about.spec == picture_task(known).about.spec


def test_cifar10s_describe_themselves(modules):
    about = made(modules, "cifar10", 1)[1].about
    assert (about.classes, about.preparation.fit) == (cifar10.CLASSES, "crop")
    assert about.spec == spec_for("auto", (3, 32, 32), 10)


@pytest.mark.parametrize("text", ["", "a", "0/initial weights", "x" * 128])
def test_seeds_are_the_sdks(modules, text):
    found = modules(
        "async (load, text) => String((await load('random.js')).deriveSeed(text))", text
    )
    assert int(found) == derive_seed(text)
