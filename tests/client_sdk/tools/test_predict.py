"""Pictures that no client ever saw, of any size and polarity."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client_sdk.data import datasets
from client_sdk.errors import DataError
from client_sdk.task import model_file, models
from client_sdk.tools import predict
from tests.support.datasets import SHARED, needs_mnist
from tests.support.here import run_here
from tests.support.sample import sample, whole
from tests.support.trained import trained_on

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(dataset, folder, examples, epochs):
    path = folder / f"{dataset.name}.safetensors"
    path.write_bytes(trained_on(dataset, examples, epochs))
    return path


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", Path("nowhere"))


@pytest.fixture(scope="module")
def digits_model(digits, tmp_path_factory):
    return trained(digits, tmp_path_factory.mktemp("model"), 1438, 20)


@pytest.fixture(scope="module")
def mnist():
    return datasets.load("mnist", SHARED, download=False)


@pytest.fixture(scope="module")
def mnist_model(mnist, tmp_path_factory):
    return trained(mnist, tmp_path_factory.mktemp("model"), 12_000, 2)


def of_pets(folder, dataset, mean, std):
    """The file of an untrained network that tells cats from dogs in colour."""
    spec = models.spec_for("auto", (3, 32, 32), 2)
    about = {"model": spec.to_json(), "dataset": dataset, "classes": '["cat", "dog"]'}
    about |= {"mean": str([mean] * 3), "std": str([std] * 3)}
    path = folder / "pets.safetensors"
    path.write_bytes(model_file.to_bytes(models.build(spec, 0), about))
    return path


def as_stored(pixels):
    return Image.fromarray(pixels)


def enlarged(pixels):
    return Image.fromarray(pixels).resize((200, 200), Image.Resampling.NEAREST)


def ink_on_paper(pixels):
    return Image.fromarray(255 - pixels).resize((160, 160), Image.Resampling.BICUBIC)


def in_a_wide_margin(pixels):
    page = Image.new("RGB", (400, 300), (240, 235, 220))
    glyph = Image.fromarray(pixels).resize((120, 120), Image.Resampling.BICUBIC)
    page.paste((20, 20, 90), (250, 30), glyph)
    return page


def transparent(pixels):
    picture = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    glyph = Image.fromarray(pixels).resize((100, 100), Image.Resampling.BICUBIC)
    picture.paste((0, 0, 0, 255), (14, 14), glyph)
    return picture


LOOKS = [as_stored, enlarged, ink_on_paper, in_a_wide_margin, transparent]


def accuracy(dataset, model, look, folder, suffix):
    count = 100 if whole() else 40
    chosen = random.Random(0).sample(range(len(dataset.test_y)), count)
    paths = []
    for index in chosen:
        path = folder / f"{index}{suffix}"
        picture = look(dataset.test_x[index, 0].numpy())
        picture.convert("RGB" if suffix == ".jpg" else picture.mode).save(path)
        paths.append(path)
    found = predict.predict(paths, model)
    assert [p.path for p in found] == paths
    right = [p.label == str(int(dataset.test_y[i])) for p, i in zip(found, chosen, strict=True)]
    return sum(right) / count


@pytest.mark.parametrize("look", LOOKS)
def test_pictures_of_digits(digits, digits_model, tmp_path, look):
    assert accuracy(digits, digits_model, look, tmp_path, ".png") >= 0.9


@needs_mnist
@pytest.mark.parametrize("look", sample(LOOKS, [as_stored, in_a_wide_margin]))
def test_pictures_in_mnists_style(mnist, mnist_model, tmp_path, look):
    assert accuracy(mnist, mnist_model, look, tmp_path, ".png") >= 0.93


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_a_model_of_floats_takes_pictures_on_its_own_scale(digits, tmp_path, white):
    def floats(x):
        return x[:, 0].numpy().astype(np.float32) * (white / 255)

    np.savez(
        tmp_path / "own.npz",
        x_train=floats(digits.train_x),
        y_train=digits.train_y.numpy(),
        x_test=floats(digits.test_x),
        y_test=digits.test_y.numpy(),
    )
    own = datasets.load(str(tmp_path / "own.npz"), tmp_path)
    model = trained(own, tmp_path, 1438, 8)
    right = 0
    for index in range(50):
        Image.fromarray(digits.test_x[index, 0].numpy()).save(tmp_path / "digit.png")
        (found,) = predict.predict([tmp_path / "digit.png"], model)
        right += found.label == str(int(digits.test_y[index]))
    assert right >= 45


def test_jpegs(digits, digits_model, tmp_path):
    assert accuracy(digits, digits_model, ink_on_paper, tmp_path, ".jpg") >= 0.9


def test_probabilities_are_sorted_and_sum_to_one(digits_model, tmp_path):
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    (found,) = predict.predict([tmp_path / "blank.png"], digits_model, top=99)
    shares = [share for _, share in found.top]
    assert len(shares) == 10
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)


def test_colour_pictures_for_a_colour_model(tmp_path):
    path = of_pets(tmp_path, "pets", 0.5, 0.2)
    for mode, size in (("RGB", (640, 480)), ("L", (9, 20)), ("P", (33, 33))):
        Image.new(mode, size).save(tmp_path / "pet.png")
        (found,) = predict.predict([tmp_path / "pet.png"], path)
        assert {label for label, _ in found.top} == {"cat", "dog"}


def test_a_colour_set_called_digits_keeps_its_colours(tmp_path):
    path = of_pets(tmp_path, "digits", 0, 1)
    pixels = predict.Classifier.load(path).prepare(Image.new("RGB", (50, 40), (255, 51, 0)))
    assert pixels[0, :, 9, 9].tolist() == pytest.approx([1.0, 0.2, 0.0])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"std": "[0.0]"}, "cannot scale"),
        ({"mean": "[NaN]"}, "cannot scale"),
        ({"model": ('"hidden": 64', '"hidden": 8192')}, "fewer weights"),
    ],
)
def test_a_strangers_model_file_is_checked_before_it_is_used(digits, tmp_path, changes, says):
    spec = models.spec_for("auto", (1, 8, 8), 10)
    metadata = model_file.describe(digits, spec) | changes
    if "model" in changes:
        metadata["model"] = spec.to_json().replace(*changes["model"])
    path = tmp_path / "strange.safetensors"
    path.write_bytes(model_file.to_bytes(models.build(spec, 0), metadata))
    with pytest.raises(DataError, match=says):
        predict.Classifier.load(path)


def test_sixteen_bits_a_pixel(digits_model, tmp_path):
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert predict.predict([tmp_path / "deep.png"], digits_model)


def test_bad_pictures_and_bad_models_are_named(digits_model, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("L", (8, 8)).save(tmp_path / "fine.png")
    (tmp_path / "noise.safetensors").write_bytes(b"\x80\x04 pickled?")
    plain = model_file.to_bytes(models.build(models.spec_for("auto", (1, 8, 8), 10)))
    (tmp_path / "plain.safetensors").write_bytes(plain)
    for image, model, says in (
        ("text.png", digits_model, "text.png"),
        ("gone.png", digits_model, "gone.png"),
        ("fine.png", tmp_path / "gone.safetensors", "gone.safetensors"),
        ("fine.png", tmp_path / "noise.safetensors", "model of this SDK"),
        ("fine.png", tmp_path / "plain.safetensors", "model of this SDK"),
    ):
        with pytest.raises(DataError, match=says):
            predict.predict([tmp_path / image], model)


def test_a_folder_stands_for_its_pictures(digits_model, tmp_path):
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    for place in ("in/b.png", "in/deeper/c.png", "in/a.jpg", "one.png"):
        Image.new("L", (8, 8)).save(tmp_path / place)
    (tmp_path / "in" / "notes.txt").write_text("no picture", encoding="utf-8")
    found = predict.predict([tmp_path / "in", tmp_path / "one.png"], digits_model)
    names = [p.path.relative_to(tmp_path).as_posix() for p in found]
    assert names == ["in/a.jpg", "in/b.png", "in/deeper/c.png", "one.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no images"):
        predict.predict([tmp_path / "empty"], digits_model)


def test_the_command_prints_class_and_probability(digits, digits_model, tmp_path):
    paths = []
    for index in (0, 1):
        paths.append(str(tmp_path / f"{index}.png"))
        ink_on_paper(digits.test_x[index, 0].numpy()).save(paths[-1])
    command = ["predict", "--model", str(digits_model), *paths]
    plain = run_here(*command)
    assert plain.returncode == 0, plain.stderr
    label = int(digits.test_y[0])
    assert plain.stdout.splitlines()[0].startswith(f"{paths[0]}: {label} ")
    as_json = run_here(*command, "--json")
    assert as_json.returncode == 0, as_json.stderr
    assert [p["path"] for p in json.loads(as_json.stdout)] == paths
    wrong = run_here(*command, "nowhere.png")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: nowhere.png cannot be read")
