"""Exported models: the same answers as PyTorch's, without this SDK or the machine's paths."""

import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from client_sdk.cli import command_line, export_command
from client_sdk.cli.arguments import make_parser
from client_sdk.data import datasets
from client_sdk.data.dataset import Parts, make_dataset
from client_sdk.data.preparation import Preparation
from client_sdk.errors import DataError
from client_sdk.results.console import Output
from client_sdk.task import model_file, models
from client_sdk.tools.export import export
from client_sdk.tools.exporters.torchscript import METADATA
from client_sdk.tools.predict import Classifier
from tests.support.federation import ADMIN_KEY
from tests.support.sample import sample

SHAPES = {"mnist-cnn": (1, 28, 28), "cifar10-cnn": (3, 32, 32), "digits-cnn": (1, 8, 8)}


def a_set(name):
    """Pictures of a shape: the real digits, or noise of other colours a channel."""
    if name == "digits-cnn":
        return datasets.load("digits", Path("nowhere"))
    channels, height, width = SHAPES[name]
    dice = torch.Generator().manual_seed(3)
    spread = torch.linspace(90, 255, channels).view(1, -1, 1, 1)
    x = (torch.rand(40, channels, height, width, generator=dice) * spread).to(torch.uint8)
    y = torch.arange(40) % 10
    x, y = x.numpy(), y.numpy()
    preparation = Preparation(channels, height, width, "crop")
    parts = Parts(tuple("abcdefghij"), (x, y), (x[:33], y[:33]), preparation)
    return make_dataset("noise", parts)


def a_model(name):
    found = a_set(name)
    spec = models.spec_for(name, found.shape, len(found.classes))
    return found, model_file.to_bytes(models.build(spec, 5), model_file.describe(found, spec))


@pytest.fixture(scope="module", params=sample(sorted(SHAPES), ["cifar10-cnn", "mnist-cnn"]))
def known(request):
    return a_model(request.param)


@pytest.fixture(scope="module")
def digits():
    return a_model("digits-cnn")


def torchs(data, images):
    with torch.no_grad():
        return Classifier.parse(data, "it").model(images).numpy()


def onnxs(made, images):
    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    return logits, session.get_modelmeta().custom_metadata_map


def scripts(made, images):
    extra = {METADATA: ""}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        network = torch.jit.load(io.BytesIO(made), _extra_files=extra)
        return network(images).numpy(), json.loads(extra[METADATA])


@pytest.mark.parametrize(("form", "answer"), [("onnx", onnxs), ("torchscript", scripts)])
def test_the_same_answers_as_pytorch_for_any_number_of_images(known, form, answer):
    found, data = known
    made = export(data, form)
    for count in (1, 2, 33):
        images = found.normalise(found.test_x[:count])
        logits, about = answer(made, images)
        assert logits.shape == (count, 10)
        np.testing.assert_allclose(logits, torchs(data, images), atol=1e-4)
    assert json.loads(about["classes"]) == list(found.classes)
    assert json.loads(about["mean"]) == pytest.approx(list(found.mean))
    assert json.loads(about["std"]) == pytest.approx(list(found.std))
    assert "then (x * white - mean) / std" in about["input"]
    assert "softmax" in about["output"]


@pytest.mark.parametrize(("form", "answer"), [("onnx", onnxs), ("torchscript", scripts)])
def test_with_normalise_pixels_go_in_as_they_are(known, form, answer):
    found, data = known
    images = found.test_x[:33]
    logits, about = answer(export(data, form, normalise=True), images.float() / 255)
    np.testing.assert_allclose(logits, torchs(data, found.normalise(images)), atol=1e-4)
    assert "the graph normalises them" in about["input"]


def test_a_set_of_floats_up_to_255_takes_pixels_in_0_to_1_too(digits, tmp_path):
    found, _ = digits
    parts = {"x_train": found.train_x.float(), "y_train": found.train_y}
    parts |= {"x_test": found.test_x.float(), "y_test": found.test_y}
    np.savez(tmp_path / "floats.npz", **{name: t.numpy() for name, t in parts.items()})
    floats = datasets.load(str(tmp_path / "floats.npz"), tmp_path)
    spec = models.spec_for("digits-cnn", floats.shape, 10)
    data = model_file.to_bytes(models.build(spec, 5), model_file.describe(floats, spec))
    logits, _ = onnxs(export(data, "onnx", normalise=True), found.test_x[:9].float() / 255)
    expected = torchs(data, floats.normalise(floats.test_x[:9]))
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_an_onnx_file_is_reproducible_and_names_no_path_of_this_machine(digits):
    _, data = digits
    made = export(data, "onnx", normalise=True)
    assert made == export(data, "onnx", normalise=True)
    for path in (Path(torch.__file__).parent, Path(__file__).parents[3], Path(sys.prefix)):
        assert str(path).encode() not in made
    assert b"stack_trace" not in made
    shape = onnx.load_from_string(made).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", 1, 8, 8]


def test_safetensors_stay_as_they_are(digits):
    _, data = digits
    assert export(data, "safetensors") == data
    with pytest.raises(DataError, match="weights only"):
        export(data, "safetensors", normalise=True)
    with pytest.raises(DataError, match="model of this SDK"):
        export(b"no model at all", "safetensors")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_the_way_to_get_it(digits, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=rf"{package}: .*pip install 'serverless-fl\[export\]'"):
        export(digits[1], "onnx")


def test_the_command_writes_the_format_that_the_name_says(digits, tmp_path, capsys):
    found, data = digits
    (tmp_path / "global.safetensors").write_bytes(data)
    given = ["export", "--model", str(tmp_path / "global.safetensors")]
    made = tmp_path / "digits.onnx"
    assert command_line.run([*given, "--normalise", "--out", str(made)]) == 0
    assert "onnx" in capsys.readouterr().out
    logits, _ = onnxs(made.read_bytes(), found.test_x[:5].float() / 255)
    expected = torchs(data, found.normalise(found.test_x[:5]))
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()].count("digits.onnx") == 1
    assert len(list(tmp_path.iterdir())) == 2  # no draft stays


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "model.bin"], "which --format"),
        (["--model", "nowhere", "--out", "x.onnx"], "nowhere cannot be read"),
        (["--experiment", "x", "--out", "x.onnx"], "go with --server"),
        (["--server", "http://127.0.0.1:9", "--out", "x.onnx"], "--experiment"),
        (
            ["--server", "http://127.0.0.1:9", "--experiment", "x", "--out", "x.onnx"],
            "FL_ADMIN_KEY or FL_ENROL_KEY",
        ),
    ],
)
def test_bad_usage_is_one_sentence(arguments, says, capsys):
    assert command_line.run(["export", *arguments]) == 2
    assert says in capsys.readouterr().err


async def test_a_coordinators_model_by_its_version(federation, digits, tmp_path, monkeypatch):
    _, data = digits
    experiment, enrolment_key = await federation.create(initial=data)
    monkeypatch.setattr(
        export_command,
        "CoordinatorClient",
        lambda url, key, on_retry: _Open(federation.admin.using(key)),
    )
    out = tmp_path / "it.safetensors"
    given = ["export", "--server", "http://coordinator", "--experiment", experiment]
    for more in (["--key", ADMIN_KEY], ["--key", enrolment_key, "--version", "0"]):
        arguments = make_parser().parse_args([*given, *more, "--out", str(out)])
        assert await export_command.execute(arguments, Output(to_stderr=True)) == 0
        assert out.read_bytes() == data
        out.unlink()


class _Open:
    """A client whose connections stay the test's."""

    def __init__(self, client):
        self.client = client

    async def __aenter__(self):
        return self.client

    async def __aexit__(self, *_):
        return None
