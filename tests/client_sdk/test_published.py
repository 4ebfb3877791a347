"""MNIST's and CIFAR-10's own files, small ones made here, as people have them on disk."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest

from client_sdk import cifar10, datasets, mnist
from client_sdk.errors import DataError

SIZES = {"train": 7, "t10k": 5}


def idx(values):
    head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4) for n in values.shape)
    return head + values.tobytes()


def contents(folder="MNIST/raw", name="{part}-{what}-idx{n}-ubyte", changes=()):
    rng = np.random.default_rng(1)
    files = {}
    for part, count in SIZES.items():
        x = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for what, values in (("images", x), ("labels", np.arange(count, dtype=np.uint8))):
            found = name.format(part=part, what=what, n=values.ndim)
            files[f"{folder}/{found}"] = idx(values)
    return {**files, **dict(changes)}


def write(root, files):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)


@pytest.mark.parametrize("folder", ["MNIST/raw", ".", "MNIST", "mnist", "raw"])
@pytest.mark.parametrize(
    "name",
    [
        "{part}-{what}-idx{n}-ubyte",
        "{part}-{what}-idx{n}-ubyte.gz",
        "{part}-{what}.idx{n}-ubyte",
        "{part}-{what}-idx{n}-ubyte/{part}-{what}-idx{n}-ubyte",
    ],
)
def test_mnist_in_the_folders_and_by_the_names_that_people_have(tmp_path, folder, name):
    write(tmp_path, contents(folder, name))
    found = datasets.load("mnist", tmp_path, download=False)
    assert found.train_x.shape == (7, 1, 28, 28)
    assert found.train_y.tolist() == list(range(7))
    assert found.test_y.tolist() == list(range(5))
    assert found.preparation.fit == "mnist"
    first = contents()["MNIST/raw/train-images-idx3-ubyte"][16 : 16 + 784]
    assert found.train_x[0].flatten().tolist() == list(first)
    assert datasets.load("auto", tmp_path, download=False).name == "mnist"


def damaged(part, what, change):
    name = f"MNIST/raw/{part}-{what}-idx{3 if what == 'images' else 1}-ubyte"
    return {name: change(contents()[name])}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (damaged("train", "images", lambda d: d[:2000]), "train-images.* cut short or damaged"),
        (damaged("t10k", "labels", lambda d: d + b"\0"), "t10k-labels.* cut short or damaged"),
        (damaged("train", "images", lambda d: b""), "train-images.* is not an IDX file"),
        (damaged("train", "images", lambda d: b"<html>" * 99), "train-images.* is not an IDX file"),
        (
            damaged("t10k", "labels", lambda d: d.replace(b"\0\0\0\5", b"\0\0\0\4")[:-1]),
            "5 images, but .*t10k-labels.* 4 labels: they do not belong together",
        ),
        (damaged("train", "labels", lambda d: d[:-1] + b"\x0b"), "train-labels.* the label 11"),
        (
            damaged("t10k", "images", lambda d: idx(np.zeros((5, 8, 8), np.uint8))),
            "t10k-images.* not of the training images' size",
        ),
        (
            damaged("train", "images", lambda d: idx(np.zeros((0, 28, 28), np.uint8))),
            "train-images.* is empty",
        ),
    ],
)
def test_a_file_of_mnist_that_is_wrong_is_named(tmp_path, changes, says):
    write(tmp_path, contents(changes=changes))
    with pytest.raises(DataError, match=says):
        datasets.load("mnist", tmp_path, download=False)


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-9], lambda d: d[:40] + b"\0\0\0" + d[43:], lambda d: b"not gzip"]
)
def test_a_damaged_archive_is_named(tmp_path, damage):
    write(tmp_path, contents(name="{part}-{what}-idx{n}-ubyte.gz"))
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        datasets.load("mnist", tmp_path, download=False)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "_LARGEST", 1000)
    write(tmp_path, contents(name="{part}-{what}-idx{n}-ubyte.gz"))
    with pytest.raises(DataError, match="larger than any file of MNIST"):
        datasets.load("mnist", tmp_path, download=False)


def test_three_files_of_four_are_not_mnist(tmp_path):
    write(tmp_path, contents())
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"MNIST is not in .*, and downloads are off"):
        datasets.load("mnist", tmp_path, download=False)


def test_cifar10s_batches(tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    for digests in (cifar10._TRAIN, cifar10._TEST):
        for name in digests:
            rows = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
            data = pickle.dumps({b"data": rows, b"labels": [0, 1, 2, 9], b"batch_label": b"x"})
            (tmp_path / cifar10.FOLDER).mkdir(exist_ok=True)
            (tmp_path / cifar10.FOLDER / name).write_bytes(data)
            monkeypatch.setitem(digests, name, hashlib.md5(data).hexdigest())
    found = datasets.load("cifar10", tmp_path, download=False)
    assert (found.train_x.shape, found.test_x.shape) == ((20, 3, 32, 32), (4, 3, 32, 32))
    assert found.test_y.tolist() == [0, 1, 2, 9]
    assert found.test_x[3].flatten().tolist() == rows[3].tolist()
    assert found.classes[9] == "truck"
    (tmp_path / cifar10.FOLDER / "test_batch").unlink()
    with pytest.raises(DataError, match="test_batch cannot be read"):
        datasets.load("cifar10", tmp_path, download=False)
