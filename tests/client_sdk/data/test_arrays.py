"""Arrays as courses, libraries and instruments hand them out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from client_sdk.data import datasets
from client_sdk.data.arrays import read_arrays
from client_sdk.data.dataset import normalise
from client_sdk.data.preparation import Preparation, Range
from client_sdk.errors import DataError
from client_sdk.task import model_file, models
from client_sdk.tools import predict

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (60, 10, 12), dtype=np.uint8)
BYTES[:, 0, :2] = (0, 255)  # every picture has its black and its white
COLOUR = np.stack([BYTES, BYTES[::-1], np.roll(BYTES, 1, 0)], axis=3)
LABELS = np.arange(60) % 4


def load(folder, **arrays):
    np.savez(folder / "own.npz", **{"x_train": BYTES, "y_train": LABELS} | arrays)
    return datasets.load(str(folder / "own.npz"), folder)


def as_in_courses(x):
    return (x / 127.5 - 1).astype(np.float32)


def standardised(x):
    mean, std = np.float32((0.49, 0.48, 0.45)), np.float32((0.25, 0.24, 0.26))
    if x.ndim == 3:
        mean, std = np.float32(0.1307), np.float32(0.3081)
    return ((x / 255 - mean) / std).astype(np.float32)


SCALES = {
    "bytes": lambda x: x,
    "bytes in 64 bits": lambda x: x.astype(np.int64),
    "0 to 1": lambda x: (x / 255).astype(np.float32),
    "0 to 1 in 64 bits": lambda x: x / 255,
    "0 to 1 in 16 bits": lambda x: (x / 255).astype(np.float16),
    "0 to 255": lambda x: x.astype(np.float32),
    "-1 to 1": as_in_courses,
    "standardised": standardised,
    "16 bits": lambda x: x.astype(np.uint16) * 257,
    "12 bits": lambda x: (x * 16.05).astype(np.uint16),
    "0 to 16": lambda x: (x / 255 * 16).astype(np.float32),
    "-0.5 to 0.5": lambda x: (x / 255 - 0.5).astype(np.float32),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("bytes_", [BYTES, COLOUR], ids=["grey", "colour"])
def test_a_picture_file_becomes_what_was_trained_on_whatever_its_scale(tmp_path, scale, bytes_):
    dataset = load(tmp_path, x_train=SCALES[scale](bytes_))
    spec = models.spec_for("auto", dataset.shape, 4)
    data = model_file.to_bytes(models.build(spec, 0), model_file.describe(dataset, spec))
    classifier = predict.Classifier.parse(data, "it")
    expected = dataset.normalise(dataset.test_x)
    assert torch.isfinite(expected).all()
    whole = normalise(
        torch.from_numpy(np.atleast_3d(bytes_.reshape(60, 10, 12, -1))).permute(0, 3, 1, 2),
        dataset.mean,
        dataset.std,
    )
    for n in range(len(expected)):
        at = int((whole - expected[n]).abs().amax((1, 2, 3)).argmin())
        found = classifier.prepare(Image.fromarray(bytes_[at]))[0]
        # Half a step of 12 bits or of a 16 bit float, and rounding, is what the scales lose.
        assert (found - expected[n]).abs().max() < 0.02


def test_a_16_bit_file_is_read_on_the_scale_of_the_arrays(tmp_path):
    deep = (BYTES * 16.05).astype(np.uint16)  # 12 bits, as cameras and X-rays have them
    dataset = load(tmp_path, x_train=deep, x_test=deep[:5] // 3, y_test=LABELS[:5])
    assert dataset.preparation.ranges == {"integer": Range((0.0,), (4095.0,))}
    spec = models.spec_for("auto", dataset.shape, 4)
    data = model_file.to_bytes(models.build(spec, 0), model_file.describe(dataset, spec))
    found = predict.Classifier.parse(data, "it").prepare(Image.fromarray(deep[1] // 3))
    assert torch.equal(found[0], dataset.normalise(dataset.test_x)[1])  # dark ones stay dark


def test_floats_slightly_above_1_are_on_the_scale_of_1(tmp_path):
    x = (BYTES / 255).astype(np.float32)
    x[3, 4, 5], x[4, 4, 4] = 1.04, -0.03  # filters overshoot
    dataset = load(tmp_path, x_train=x)
    assert dataset.preparation.ranges["float"] == Range((0.0,), (1.0,))
    assert max(dataset.train_x.max(), dataset.test_x.max()) == pytest.approx(1.04)


@pytest.mark.parametrize("value", [0, 0.1, 0.7, 1])
def test_a_channel_that_is_all_alike_leaves_the_pictures_finite(tmp_path, value):
    x = (COLOUR / 255).astype(np.float32)
    x[..., 1] = value
    dataset = load(tmp_path, x_train=x)
    found = dataset.normalise(dataset.train_x)
    assert torch.isfinite(found).all()
    assert found[:, 1].abs().max() < 1e-5
    assert found[:, 0].std() > 0.5


def test_a_standardised_channel_that_is_all_alike_leaves_the_pictures_finite(tmp_path):
    x = standardised(COLOUR)
    x[..., 2] = -1.7
    dataset = load(tmp_path, x_train=x)
    assert torch.isfinite(dataset.normalise(dataset.train_x)).all()


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.full_like(BYTES, 7), "all pixels of all images"),
        (np.full(BYTES.shape, 0.3), "all pixels of all images"),
        (np.full(BYTES.shape, 70_000), "all pixels of all images"),
        (np.zeros(BYTES.shape, bool), "all pixels of all images"),
        (np.repeat(BYTES[:1], 60, axis=0), "all images to train on are alike"),
    ],
)
def test_a_set_that_is_all_alike_is_refused(tmp_path, x, says):
    with pytest.raises(DataError, match=says):
        load(tmp_path, x_train=x)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8])
def test_channels_may_come_last(tmp_path, channels):
    first = RNG.integers(0, 256, (60, channels, 10, 12), dtype=np.uint8)
    one = load(tmp_path, x_train=first)
    other = load(tmp_path, x_train=first.transpose(0, 2, 3, 1))
    assert one.shape == (channels, 10, 12)
    assert torch.equal(one.train_x, other.train_x)


@pytest.mark.parametrize("shape", [(10, 10, 10), (9, 9, 200), (200, 9, 9), (2, 10, 2)])
def test_a_shape_that_says_nothing_is_refused_unless_its_layout_is_given(tmp_path, shape):
    x = RNG.integers(0, 256, (60, *shape), dtype=np.uint8)
    with pytest.raises(DataError, match="layout='NHWC'"):
        load(tmp_path, x_train=x)
    assert load(tmp_path, x_train=x, layout="NCHW").shape == shape
    assert load(tmp_path, x_train=x, layout="NHWC").shape == (shape[2], *shape[:2])
    with pytest.raises(DataError, match="must be NCHW or NHWC, not 'HWCN'"):
        load(tmp_path, x_train=x, layout="HWCN")


def test_rows_are_squares(tmp_path):
    square = BYTES[:, :10, :10]
    dataset = load(tmp_path, x_train=square.reshape(60, 100))
    assert torch.equal(dataset.train_x, load(tmp_path, x_train=square).train_x)
    assert "100 values are read as pictures of 10x10" in dataset.note


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (LABELS[:, None], "0123"),
        (np.eye(4)[LABELS], "0123"),
        (np.eye(4, dtype=bool)[LABELS], "0123"),
        (np.eye(6)[LABELS], "012345"),
        (np.array(list("abcd"))[LABELS], "abcd"),
        (np.array(list("abcd"))[LABELS][:, None], "abcd"),
        (np.array([b"a", b"b", b"c", b"d"])[LABELS], "abcd"),
        (LABELS.astype(np.uint8), "0123"),
    ],
)
def test_labels_in_the_usual_forms(tmp_path, labels, classes):
    dataset = load(tmp_path, y_train=labels)
    assert dataset.classes == tuple(classes)
    assert sorted(dataset.train_y.tolist() + dataset.test_y.tolist()) == sorted(LABELS)


def test_words_for_labels_follow_the_order_of_the_classes_that_are_given(tmp_path):
    words = np.array(["ash", "elm", "fir", "oak"])
    given = words[[2, 0, 3, 1]]
    dataset = load(tmp_path, y_train=words[LABELS], classes=given)
    assert dataset.classes == ("fir", "ash", "oak", "elm")
    with pytest.raises(DataError, match="the label 'oak', which is none of its classes"):
        load(tmp_path, y_train=words[LABELS], classes=words[:3])


def test_labels_from_1_are_told_that_labels_count_from_0(tmp_path):
    dataset = load(tmp_path, y_train=LABELS + 1)
    assert dataset.classes == tuple("01234")
    assert "labels count from 0" in dataset.note


@pytest.mark.parametrize(
    "labels",
    [LABELS + 0.5, LABELS.astype(float), np.ones((60, 3)), np.eye(4)[LABELS] * 2, LABELS * 1j],
)
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path, labels):
    with pytest.raises(DataError, match="one non-negative whole number an image"):
        load(tmp_path, y_train=labels)


def test_medmnists_names_and_a_validation_part(tmp_path):
    parts = {"train": BYTES, "val": BYTES[:9], "test": BYTES[:7]}
    arrays = {f"{part}_images": x for part, x in parts.items()}
    arrays |= {f"{part}_labels": LABELS[: len(x), None] for part, x in parts.items()}
    np.savez(tmp_path / "med.npz", **arrays)
    dataset = datasets.load(str(tmp_path / "med.npz"), tmp_path)
    assert (len(dataset.train_y), len(dataset.test_y)) == (60, 7)
    assert "val is left out" in dataset.note
    del arrays["test_images"], arrays["test_labels"]
    np.savez(tmp_path / "med.npz", **arrays)
    dataset = datasets.load(str(tmp_path / "med.npz"), tmp_path)
    assert (len(dataset.train_y), len(dataset.test_y), dataset.note) == (60, 9, "")


def test_arrays_take_another_size_like_pictures(tmp_path):
    load(tmp_path)
    path = str(tmp_path / "own.npz")
    for fit, inner in (("letterbox", (5, 6)), ("crop", (6, 6))):
        dataset = datasets.load(path, tmp_path, size=(6, 6), fit=fit)
        assert dataset.shape == (1, 6, 6)
        assert dataset.preparation.fit == fit
        rows = dataset.train_x.amax((0, 1, 3)) > 0
        assert int(rows.sum()) == inner[0]


def test_a_party_with_arrays_on_another_scale_reads_what_the_experiment_reads(tmp_path):
    one = load(tmp_path, x_train=as_in_courses(BYTES))
    for other in (BYTES, BYTES / 255, BYTES.astype(np.uint16) * 257, as_in_courses(BYTES)):
        np.savez(tmp_path / "other.npz", x_train=other, y_train=LABELS)
        found = datasets.load(str(tmp_path / "other.npz"), tmp_path, like=one.preparation)
        mine = normalise(found.train_x, one.mean, one.std)
        assert torch.allclose(mine, one.normalise(one.train_x), atol=1e-5)
    with pytest.raises(DataError, match="have 3 channels; 1 are wanted"):
        np.savez(tmp_path / "other.npz", x_train=COLOUR, y_train=LABELS)
        datasets.load(str(tmp_path / "other.npz"), tmp_path, like=one.preparation)


def test_huge_pictures_end_in_words(tmp_path):
    dataset = load(tmp_path, x_train=np.tile(BYTES[:8], (1, 90, 90)), y_train=LABELS[:8] % 1)
    assert dataset.shape == (1, 900, 1080)
    with pytest.raises(DataError, match=r"1080x900 make a network of .* smaller --image-size"):
        models.spec_for("auto", dataset.shape, 4)


def test_memory_that_does_not_suffice_is_said(tmp_path, monkeypatch):
    def empty(*_, **__):
        raise MemoryError("Unable to allocate 9.0 TiB")

    load(tmp_path)
    monkeypatch.setattr(np, "empty", empty)
    with pytest.raises(DataError, match=r"does not fit .* 9.0 TiB.* --image-size"):
        datasets.load(str(tmp_path / "own.npz"), tmp_path, size=(99, 99))


@pytest.mark.parametrize("name", ["mnist", "digits", "cifar10", "auto"])
def test_the_named_sets_have_a_size(name):
    with pytest.raises(DataError, match=f"{name} has a size"):
        datasets.load(name, Path("nowhere"), size=(8, 8))


def test_the_preparation_of_the_named_sets():
    assert datasets.load("digits", Path("nowhere")).preparation == Preparation(1, 8, 8, "digits")


def test_several_labels_a_picture_are_named_as_what_they_are(tmp_path):
    """ChestMNIST has 14 of them, of which several may be true."""
    labels = np.zeros((6, 14), np.uint8)
    labels[0, :3] = 1
    path = tmp_path / "chestmnist.npz"
    np.savez(path, train_images=np.zeros((6, 8, 8), np.uint8), train_labels=labels)
    with pytest.raises(DataError, match=r"14 labels a picture.*are not supported"):
        read_arrays(path)


def test_the_picture_that_is_not_finite_is_named(tmp_path):
    pictures = np.zeros((6, 8, 8))
    pictures[4, 0, 0] = np.nan
    path = tmp_path / "pictures.npz"
    np.savez(path, x_train=pictures, y_train=np.arange(6) % 2)
    with pytest.raises(DataError, match="but image 4 "):
        read_arrays(path)
