"""Data sets: real ones where they are, small ones of one's own, and clear words for bad ones."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from client_sdk.data import datasets, digits, download
from client_sdk.errors import DataError
from tests.support.datasets import SHARED, needs_mnist


def test_digits_come_without_a_network_and_split_by_class():
    data = datasets.load("digits", Path("nowhere"))
    assert data.shape == (1, 8, 8)
    assert len(data.train_y) + len(data.test_y) == 1797
    assert data.train_x.dtype == torch.uint8
    shares = data.test_y.bincount() / (data.test_y.bincount() + data.train_y.bincount())
    assert ((shares - 0.2).abs() < 0.01).all()
    again = datasets.load("digits", Path("nowhere"))
    assert torch.equal(data.test_x, again.test_x)


def test_digits_are_those_of_scikit_learn():
    (images, labels), found = digits.read(Path("nowhere"), False).train, load_digits()
    assert np.array_equal(images[:, 0], np.round(found.images * (255 / 16)))
    assert np.array_equal(labels, found.target)


def test_digits_need_scikit_learn(monkeypatch):
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="scikit-learn"):
        datasets.load("digits", Path("nowhere"))


def test_normalised_training_images_have_mean_0_and_deviation_1():
    data = datasets.load("digits", Path("nowhere"))
    x = data.normalise(data.train_x)
    assert x.dtype == torch.float32
    assert abs(x.mean().item()) < 1e-4
    assert abs(x.std(correction=0).item() - 1) < 1e-4


@needs_mnist
def test_mnist_as_it_was_published():
    data = datasets.load("mnist", SHARED, download=False)
    assert (len(data.train_y), len(data.test_y), data.shape) == (60000, 10000, (1, 28, 28))
    # The figures that everyone quotes.
    assert data.mean == pytest.approx((0.1307,), abs=1e-4)
    assert data.std == pytest.approx((0.3081,), abs=1e-4)
    assert data.train_y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@needs_mnist
def test_auto_takes_mnist_where_it_lies():
    data = datasets.load("auto", SHARED, download=False)
    assert data.name == "mnist"
    assert str(SHARED) in data.note


def test_auto_falls_back_on_digits_and_says_why(tmp_path):
    data = datasets.load("auto", tmp_path, download=False)
    assert data.name == "digits"
    assert "MNIST is not in" in data.note
    assert "downloads are off" in data.note


def test_auto_without_a_network_says_so(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(download.socket, "create_connection", unreachable)
    assert "there is no internet here" in datasets.load("auto", tmp_path).note
    with pytest.raises(DataError, match="no internet here: unpack https"):
        datasets.load("cifar10", tmp_path)


def test_without_a_torchvision_that_imports_a_sentence_says_what_to_put_where(
    tmp_path, monkeypatch
):
    """As beside a PyTorch that its compiled operators do not fit."""

    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(download, "_reachable", lambda url: True)
    monkeypatch.setattr(download.importlib, "import_module", fail)
    with pytest.raises(DataError) as caught:
        datasets.load("mnist", tmp_path)
    assert f"MNIST is not in {tmp_path}, and no torchvision that fits" in str(caught.value)
    assert "put train-images-idx3-ubyte.gz, " in str(caught.value)
    assert str(tmp_path / "MNIST" / "raw") in str(caught.value)
    with pytest.raises(DataError, match=r"unpack https://.*cifar-10-binary.tar.gz into"):
        datasets.load("cifar10", tmp_path)


def test_a_cifar10_archive_that_was_tampered_with_is_not_unpickled(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]:
        # A pickle that would make a file if anyone loaded it.
        (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(DataError, match="corrupted"):
        datasets.load("cifar10", tmp_path, download=False)
    assert not (tmp_path / "exploded").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path(self.path).touch, ())


def make_folder(root, parts=("train", "test"), classes=("cat", "dog"), size=(6, 5), mode="RGB"):
    for p, part in enumerate(parts):
        for label, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for n in range(3 + p):
                Image.new(mode, size, (label * 100, n, 7) if mode == "RGB" else n).save(
                    folder / f"{n}.png"
                )
    return root


def test_a_folder_of_images(tmp_path):
    data = datasets.load(str(make_folder(tmp_path / "pets")), Path("nowhere"))
    assert (data.name, data.classes, data.shape) == ("pets", ("cat", "dog"), (3, 5, 6))
    assert data.train_y.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_y.tolist() == [0] * 4 + [1] * 4
    assert data.train_x[4, :, 0, 0].tolist() == [100, 1, 7]


def test_a_folder_of_grey_images_has_one_channel(tmp_path):
    data = datasets.load(str(make_folder(tmp_path / "grey", mode="L")), Path("nowhere"))
    assert data.shape == (1, 5, 6)


def test_a_folder_without_a_test_part_keeps_a_fifth_of_each_class(tmp_path):
    make_folder(tmp_path / "pets", parts=("train",))
    for n in range(3, 10):
        for name in ("cat", "dog"):
            Image.new("RGB", (6, 5)).save(tmp_path / "pets" / "train" / name / f"{n}.png")
    data = datasets.load(str(tmp_path / "pets"), Path("nowhere"))
    assert data.test_y.tolist() == [0, 0, 1, 1]
    assert len(data.train_y) == 16


def test_images_of_other_sizes_are_fitted_to_the_first(tmp_path):
    make_folder(tmp_path / "pets")
    Image.new("RGBA", (60, 50)).save(tmp_path / "pets" / "train" / "dog" / "big.png")
    assert datasets.load(str(tmp_path / "pets"), Path("nowhere")).shape == (3, 5, 6)


def test_one_grey_picture_does_not_cost_the_others_their_colour(tmp_path):
    make_folder(tmp_path / "pets")
    Image.new("L", (6, 5), 9).save(tmp_path / "pets" / "train" / "cat" / "0.png")
    data = datasets.load(str(tmp_path / "pets"), Path("nowhere"))
    assert data.shape == (3, 5, 6)
    assert data.train_x[4, :, 0, 0].tolist() == [100, 1, 7]


def damage_image(root):
    (root / "train" / "cat" / "1.png").write_bytes(b"not an image")


def damage_cut(root):
    path = root / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:40])


def damage_class(root):
    (root / "test" / "cow").mkdir()


def damage_all(root):
    for path in (root / "train").glob("*/*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_image, "1.png cannot be read"),
        (damage_cut, "1.png cannot be read"),
        (damage_class, "cow"),
        (damage_all, "no images"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, damage, says):
    damage(make_folder(tmp_path / "pets"))
    with pytest.raises(DataError, match=says):
        datasets.load(str(tmp_path / "pets"), Path("nowhere"))


def arrays(**changes):
    rng = np.random.default_rng(0)
    made = {
        "x_train": rng.integers(0, 256, (20, 8, 9), dtype=np.uint8),
        "y_train": np.arange(20) % 4,
        "x_test": rng.integers(0, 256, (8, 8, 9), dtype=np.uint8),
        "y_test": np.arange(8) % 4,
    }
    return {k: v for k, v in (made | changes).items() if v is not None}


def save(tmp_path, **changes):
    np.savez(tmp_path / "own.npz", **arrays(**changes))
    return str(tmp_path / "own.npz")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((20, 8, 9), (1, 8, 9)), ((20, 8, 9, 3), (3, 8, 9)), ((20, 3, 8, 9), (3, 8, 9))],
)
def test_npz_images_in_the_usual_layouts(tmp_path, shape, expected):
    x = np.zeros(shape, np.uint8)
    x[1] = 9
    data = datasets.load(save(tmp_path, x_train=x, x_test=x[:8]), Path("nowhere"))
    assert (data.name, data.shape) == ("own", expected)
    assert data.train_x[1].unique().tolist() == [9]
    assert data.classes == ("0", "1", "2", "3")


def test_npz_of_floats_and_class_names_and_no_test_part(tmp_path):
    x = np.random.default_rng(0).normal(5, 2, (40, 8, 8))
    path = save(
        tmp_path,
        x_train=x,
        y_train=np.arange(40) % 4,
        x_test=None,
        y_test=None,
        classes=np.array(["a", "b", "c", "d"]),
    )
    data = datasets.load(path, Path("nowhere"))
    assert (len(data.train_y), len(data.test_y)) == (32, 8)
    assert data.classes == ("a", "b", "c", "d")
    assert data.train_x.dtype == torch.float32
    assert abs(data.normalise(data.train_x).mean().item()) < 1e-5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x_train": None}, "no array 'x_train'"),
        ({"y_train": np.arange(19) % 4}, "20 images, but 19 labels"),
        ({"y_train": np.arange(20) - 1}, "non-negative"),
        ({"y_train": np.zeros(20)}, "whole number"),
        ({"y_train": np.zeros((20, 2), int)}, "2 labels a picture"),
        ({"x_train": np.full((20, 8, 9), np.nan)}, "finite"),
        ({"x_train": np.zeros((20, 72), np.uint8)}, "images must be"),
        ({"x_train": np.zeros((20, 0, 9), np.uint8)}, "images must be"),
        ({"x_test": np.zeros((8, 9, 8), np.uint8)}, "not like the training images"),
        ({"y_test": None}, "only one of"),
        ({"y_train": np.arange(20) + 10**10}, "labels must be below"),
        ({"y_train": np.arange(20, dtype=np.uint64) + 2**63}, "labels must be below"),
        ({"x_train": np.zeros((20, 8, 9), complex)}, "finite"),
        ({"x_train": np.full((20, 8, 9), 1e300)}, "finite"),
        ({"classes": np.array("abcd")}, "1 classes, but has the label 3"),
        ({"classes": np.array(["a"])}, "1 classes, but has the label 3"),
        ({"x_train": np.array([{"a": 1}] * 20)}, "plain arrays"),
        ({"x_train": np.zeros((0, 8, 9), np.uint8), "y_train": np.zeros(0, int)}, "images must be"),
    ],
)
def test_what_is_wrong_with_an_npz_is_said(tmp_path, changes, says):
    with pytest.raises(DataError, match=says):
        datasets.load(save(tmp_path, **changes), Path("nowhere"))


def flipped(data):
    return data[:200] + bytes([data[200] ^ 255]) + data[201:]


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: b"PK\x03\x04", lambda d: d[:900], flipped]
)
def test_a_broken_npz_is_named(tmp_path, damage):
    path = Path(save(tmp_path))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"own\.npz cannot be read"):
        datasets.load(str(path), Path("nowhere"))


def test_an_npy_file_called_npz_is_named(tmp_path):
    with (tmp_path / "own.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"own\.npz cannot be read"):
        datasets.load(str(tmp_path / "own.npz"), Path("nowhere"))


def test_an_npz_is_never_unpickled(tmp_path):
    np.savez(
        tmp_path / "own.npz", **arrays(x_train=np.array([Bomb(tmp_path / "exploded")] * 20, object))
    )
    with pytest.raises(DataError):
        datasets.load(str(tmp_path / "own.npz"), Path("nowhere"))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["mnits", "no/such/folder", "file.npz", ""])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(DataError, match="mnist, cifar10, digits, auto"):
        datasets.load(name or "?", Path("nowhere"))
