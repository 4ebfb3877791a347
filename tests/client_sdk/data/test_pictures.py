"""A picture is the same in training and in prediction, whatever file it comes in."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from client_sdk.data import datasets, pictures
from client_sdk.data.preparation import Preparation, Range, guess_range, parse_size
from client_sdk.errors import DataError
from client_sdk.task import model_file, models
from client_sdk.tools import predict

SIDE = 12


def noise(n, mode="L", size=(SIDE, SIDE)):
    rng = np.random.default_rng(n)
    width, height = size
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return rng.integers(0, 256, shape, dtype=np.uint8)


def plain(path, n):
    Image.fromarray(noise(n, "RGB")).save(path.with_suffix(".png"))


def turned(path, n):
    exif = Image.Exif()
    exif[0x0112] = 5 + n % 4
    picture = Image.fromarray(noise(n, "RGB", (SIDE, 8)))
    picture.save(path.with_suffix(".jpg"), exif=exif)


def transparent(path, n):
    Image.fromarray(noise(n, "RGBA")).save(path.with_suffix(".png"))


def transparent_palette(path, n):
    picture = Image.fromarray(noise(n)).convert("P")
    picture.save(path.with_suffix(".png"), transparency=n)


def sixteen_bits(path, n):
    Image.fromarray(noise(n).astype(np.uint16) * 257).save(path.with_suffix(".png"))


def floats(path, n):
    values = noise(n).astype(np.float32) * 12 - 1000  # as radiology has them
    Image.fromarray(values).save(path.with_suffix(".tif"))


def wide(path, n):
    Image.fromarray(noise(n, "RGB", (SIDE * (1 + n % 3), SIDE))).save(path.with_suffix(".png"))


def mixed(path, n):
    (sixteen_bits if n % 2 else plain)(path, n)


def cmyk(path, n):
    Image.fromarray(noise(n, "RGB")).convert("CMYK").save(path.with_suffix(".jpg"))


KINDS = [
    *(plain, turned, transparent, transparent_palette, sixteen_bits, floats, wide, mixed, cmyk),
]


def make(root, save, count=6):
    for part in ("train", "test"):
        for label, name in enumerate(("ash", "oak")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for n in range(count):
                save(folder / str(n), n + count * label)
    return root


def model_of(dataset, path):
    spec = models.spec_for("auto", dataset.shape, len(dataset.classes))
    path.write_bytes(model_file.to_bytes(models.build(spec, 0), model_file.describe(dataset, spec)))
    return path


@pytest.mark.parametrize("options", [{}, {"size": (16, 10)}, {"size": (16, 10), "fit": "crop"}])
@pytest.mark.parametrize("save", KINDS)
def test_prediction_sees_the_very_input_that_training_saw(tmp_path, save, options):
    root = make(tmp_path / "trees", save)
    dataset = datasets.load(str(root), tmp_path, **options)
    classifier = predict.Classifier.load(model_of(dataset, tmp_path / "trees.safetensors"))
    files = sorted((root / "test").glob("*/*"))
    assert len(files) == len(dataset.test_x) == 12
    expected = dataset.normalise(dataset.test_x)
    assert expected.std() > 0.5
    for n, file in enumerate(files):
        found = classifier.prepare(pictures.open_picture(file))
        assert torch.equal(found[0], expected[n]), file


def test_a_picture_stored_lying_is_upright(tmp_path):
    pixels = noise(1, size=(16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise by a quarter to see it
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "lying.png", exif=exif)
    wanted = Preparation(1, 8, 16)
    assert pictures.look_at(tmp_path / "lying.png").size == (16, 8)
    found = pictures.read_picture(tmp_path / "lying.png", wanted)
    assert np.array_equal(found[..., 0], pixels)


def test_nothing_is_white_paper(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:4, 2:4, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "ink.png")
    found = pictures.read_picture(tmp_path / "ink.png", Preparation(1, 8, 8))[..., 0]
    assert (found[2:4, 2:4] == 0).all()
    assert (found == 255).sum() == 60


def test_letterbox_keeps_the_edges_and_crop_the_middle():
    pixels = np.full((10, 40), 100, np.uint8)
    pixels[:, :4] = pixels[:, -4:] = 200
    picture = Image.fromarray(pixels)
    whole = pictures.read_pixels(picture, Preparation(1, 20, 20, "letterbox"))[..., 0]
    assert not whole[:7].any()  # bars
    assert not whole[13:].any()
    assert whole[10, 0] == whole[10, -1] == 200
    middle = pictures.read_pixels(picture, Preparation(1, 20, 20, "crop"))[..., 0]
    assert (middle == 100).all()


@pytest.mark.parametrize("size", [(1000, 1), (1, 1000), (1, 1)])
def test_a_picture_of_any_proportions_has_a_place(size):
    picture = Image.new("RGB", size, "white")
    for fit in ("letterbox", "crop"):
        found = pictures.read_pixels(picture, Preparation(3, 8, 8, fit))
        assert found.shape == (8, 8, 3)
        assert found.any()


@pytest.mark.parametrize(
    ("low", "high", "black", "white"),
    [
        *((0, 1, 0, 1), (0.1, 0.6, 0, 1), (-0.04, 1.07, 0, 1), (0, 0.2, 0, 1), (0, 0, 0, 0)),
        *((-1, 1, -1, 1), (-1.02, 0.4, -1, 1)),
        *((0, 255, 0, 255), (3, 200, 0, 255), (-6.5, 262, 0, 255)),
        *((300, 4095, 0, 4095), (300, 4096, 0, 4095), (0, 900, 0, 1023), (9, 64_000, 0, 65_535)),
        *((0, 15.9, 0, 15.9), (0, 16, 0, 16), (0, 100, 0, 100), (0, 0.001, 0, 0.001)),
    ],
)
def test_what_black_and_white_are_is_known_from_the_values(low, high, black, white):
    found = guess_range(low, high)
    assert (found.black, found.white) == ((black,), (white,))


@pytest.mark.parametrize(("low", "high"), [(-0.4242, 2.8215), (-1000, 3000), (-0.5, 0.5)])
def test_values_of_no_convention_are_left_to_their_extremes(low, high):
    assert guess_range(low, high) is None


@pytest.mark.parametrize(("text", "size"), [("64", (64, 64)), ("64x48", (64, 48)), ("9X7", (9, 7))])
def test_a_size_in_words(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "64x", "0", "-8", "64x48x3", "8x0", "9999999", "8.5", "٣"]
)
def test_what_is_no_size_is_said(text):
    with pytest.raises(DataError, match="image-size"):
        parse_size(text)


def test_a_damaged_picture_is_named(tmp_path):
    Image.fromarray(noise(0).astype(np.float32) * np.float32("nan")).save(tmp_path / "nan.tif")
    noisy = tmp_path / "cut.png"
    Image.fromarray(noise(0)).save(noisy)
    noisy.write_bytes(noisy.read_bytes()[:60])
    for name in ("nan.tif", "cut.png"):
        with pytest.raises(DataError, match=name):
            pictures.read_picture(tmp_path / name, Preparation(1, 8, 8))
    with pytest.raises(DataError, match="finite"):
        pictures.look_at(tmp_path / "nan.tif")


@pytest.mark.filterwarnings("error")
def test_large_photographs_pass_without_a_warning_and_bombs_do_not(tmp_path, monkeypatch):
    root = make(tmp_path / "trees", plain)
    model = model_of(datasets.load(str(root), tmp_path), tmp_path / "m.safetensors")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE * SIDE - 1)
    assert len(datasets.load(str(root), tmp_path).train_y) == 12
    assert predict.predict([root / "test" / "ash" / "0.png"], model)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE * SIDE // 2 - 1)
    with pytest.raises(DataError, match=r"0\.png cannot be read as an image: Image size"):
        datasets.load(str(root), tmp_path)


def test_a_model_of_other_channels_says_that_it_takes_no_files(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 4, 9, 9), dtype=np.uint8)
    np.savez(tmp_path / "bands.npz", x_train=x, y_train=np.arange(20) % 2)
    dataset = datasets.load(str(tmp_path / "bands.npz"), tmp_path)
    model = model_of(dataset, tmp_path / "bands.safetensors")
    Image.fromarray(noise(0)).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match=r"grey\.png: .* of 4 channels"):
        predict.predict([tmp_path / "grey.png"], model)


def test_a_model_file_says_how_pictures_are_prepared(tmp_path):
    root = make(tmp_path / "trees", sixteen_bits)
    dataset = datasets.load(str(root), tmp_path, size=(9, 10), fit="crop")
    about = model_file.Description.read(
        model_of(dataset, tmp_path / "m.safetensors").read_bytes(), "it"
    )
    assert about.preparation == dataset.preparation
    assert about.preparation == Preparation(
        1, 10, 9, "crop", {"integer": Range((0.0,), (65535.0,))}
    )
    assert (about.classes, about.dataset) == (("ash", "oak"), "trees")
    assert (about.mean, about.std) == (dataset.mean, dataset.std)


def test_files_of_earlier_versions_are_read_as_they_were_meant(tmp_path):
    digits = datasets.load("digits", tmp_path)
    spec = models.spec_for("auto", digits.shape, 10)
    old = model_file.describe(digits, spec) | {"white": "255.0", "mean": "[51.0]", "std": "[25.5]"}
    del old["fit"], old["ranges"]
    about = model_file.Description.read(model_file.to_bytes(models.build(spec, 0), old), "it")
    assert (about.mean, about.std) == ((0.2,), (0.1,))
    assert about.preparation == Preparation(1, 8, 8, "digits")
    old["dataset"] = "mine"
    about = model_file.Description.read(model_file.to_bytes(models.build(spec, 0), old), "it")
    assert about.preparation.fit == "crop"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fit": "fold"}, "does not know"),
        ({"ranges": "[]"}, "ranges"),
        ({"ranges": "{"}, "ranges"),
        ({"ranges": '{"float": [[0], [NaN]]}'}, "ranges"),
        ({"ranges": '{"float": [[0, 1], [1, 2]]}'}, "ranges"),
        ({"ranges": '{"float": [[], []]}'}, "ranges"),
        ({"ranges": '{"float": 3}'}, "ranges"),
        ({"ranges": "[" * 100_000}, "ranges"),
        ({"mean": json.dumps([10**400])}, "mean"),
        ({"white": "0"}, "mean"),
    ],
)
def test_a_strangers_preparation_is_checked(tmp_path, changes, says):
    digits = datasets.load("digits", tmp_path)
    spec = models.spec_for("auto", digits.shape, 10)
    data = model_file.to_bytes(models.build(spec, 0), model_file.describe(digits, spec) | changes)
    with pytest.raises(DataError, match=says):
        model_file.Description.read(data, "it")


def test_a_party_reads_its_pictures_as_the_experiment_does(tmp_path):
    one = datasets.load(str(make(tmp_path / "one", sixteen_bits)), tmp_path, size=(9, 10))
    other = datasets.load(str(make(tmp_path / "two", wide)), tmp_path, like=one.preparation)
    assert other.shape == one.shape == (1, 10, 9)
    assert other.preparation == one.preparation
    dark = tmp_path / "dark"
    make(dark, lambda path, n: Image.fromarray(noise(n) * np.uint16(3)).save(f"{path}.png"))
    like = datasets.load(str(dark), tmp_path, like=one.preparation)
    assert like.train_x.max() < 0.02  # of 65535, not of 1023
