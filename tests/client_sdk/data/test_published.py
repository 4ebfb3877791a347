"""MNIST's and CIFAR-10's own files, small ones made here, as people have them on disk."""

import gzip
import hashlib
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from client_sdk.data import cifar10, datasets, download, mnist
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
def test_mnist_in_the_folders_and_by_the_names_that_people_have(
    tmp_path, monkeypatch, folder, name
):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # reading takes none
    write(tmp_path, contents(folder, name))
    found = datasets.load("mnist", tmp_path, download=False)
    assert found.train_x.shape == (7, 1, 28, 28)
    assert found.train_y.tolist() == list(range(7))
    assert found.test_y.tolist() == list(range(5))
    assert found.preparation.fit == "mnist"
    first = contents()["MNIST/raw/train-images-idx3-ubyte"][16 : 16 + 784]
    assert found.train_x[0].flatten().tolist() == list(first)
    assert datasets.load("auto", tmp_path, download=False).name == "mnist"
    assert "holds a part of MNIST" in found.note


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


def test_a_file_of_the_published_size_must_be_the_published_one(tmp_path, monkeypatch):
    write(tmp_path, contents())
    labels = contents()["MNIST/raw/t10k-labels-idx1-ubyte"]
    monkeypatch.setitem(mnist.PUBLISHED, "t10k-labels", (len(labels), "0" * 32))
    with pytest.raises(DataError, match=r"t10k-labels.* is not the published file of MNIST"):
        datasets.load("mnist", tmp_path, download=False)
    digest = hashlib.md5(labels).hexdigest()
    monkeypatch.setitem(mnist.PUBLISHED, "t10k-labels", (len(labels), digest))
    assert datasets.load("mnist", tmp_path, download=False).test_y.tolist() == list(range(5))


def fetch_mnist(url, folder, md5):
    """Stands for torchvision's function: it has checked the digest when it returns."""
    name = url.rpartition("/")[2].removesuffix(".gz")
    write(Path(folder), {name: contents()[f"MNIST/raw/{name}"]})


def fetch_nothing(url, folder, md5):
    raise RuntimeError("File not found or corrupted.")


def test_torchvision_downloads_what_is_not_there(tmp_path, monkeypatch):
    def answer(fetch):
        utils = SimpleNamespace(download_and_extract_archive=fetch)
        monkeypatch.setattr(download.importlib, "import_module", lambda name: utils)

    monkeypatch.setattr(download, "_reachable", lambda url: True)
    answer(fetch_nothing)
    with pytest.raises(DataError, match=r"the download failed \(File not found or corrupted"):
        datasets.load("mnist", tmp_path)
    answer(fetch_mnist)
    assert len(datasets.load("mnist", tmp_path).train_y) == 7
    assert (tmp_path / "MNIST" / "raw").is_dir()
    answer(fetch_nothing)  # it is there now
    assert datasets.load("auto", tmp_path).name == "mnist"


def batch_files(kind):
    """A small batch for each file; gives (name, bytes), and the last one's pixels."""
    rng = np.random.default_rng(2)
    labels = [0, 1, 2, 9]
    made = {}
    for name in cifar10.BINARY_FILES if kind == cifar10.BINARY else cifar10.PYTHON_FILES:
        rows = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
        if kind == cifar10.BINARY:
            made[name] = b"".join(
                bytes([n]) + row.tobytes() for n, row in zip(labels, rows, strict=True)
            )
        elif name == "test_batch":
            made[name] = as_published(rows, labels)
        else:
            made[name] = pickle.dumps({b"data": rows, b"labels": labels, b"batch_label": b"x"})
    return made, rows


def as_published(rows, labels):
    """Python 2's pickle of a batch, as the published ones are: strings, and protocol 2."""

    def short(text):
        return b"U" + bytes([len(text)]) + text

    numbers = b"".join(b"K" + bytes([n]) for n in labels)
    names = b"".join(short(b"%d_s_00%d.png" % (n, n)) for n in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85"
        + short(b"b")
        + b"\x87Rq\x09(K\x01K\x04M\x00\x0c\x86cnumpy\ndtype\nq\x0a"
        + short(b"u1")
        + b"K\x00K\x01\x87Rq\x0b(K\x03"
        + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + rows.nbytes.to_bytes(4, "little")
        + rows.tobytes()
        + b"tb"
    )
    entries = (
        (short(b"batch_label"), short(b"testing batch 1 of 1")),
        (short(b"labels"), b"](" + numbers + b"e"),
        (short(b"data"), array),
        (short(b"filenames"), b"](" + names + b"e"),
    )
    return b"\x80\x02}q\x00(" + b"".join(key + value for key, value in entries) + b"u."


def test_the_pickle_of_these_tests_is_one_that_python_reads():
    """Else the reader would be shown to read what nobody has."""
    rows = np.arange(4 * 3072, dtype=np.uint16).astype(np.uint8).reshape(4, 3072)
    batch = pickle.loads(as_published(rows, [3, 1, 4, 1]), encoding="bytes")
    assert batch[b"labels"] == [3, 1, 4, 1]
    assert (batch[b"data"] == rows).all()


@pytest.mark.parametrize("kind", [cifar10.BINARY, cifar10.PYTHON])
def test_cifar10s_batches(tmp_path, monkeypatch, kind):
    made, rows = batch_files(kind)
    digests = cifar10.BINARY_FILES if kind == cifar10.BINARY else cifar10.PYTHON_FILES
    for name, data in made.items():
        write(tmp_path, {f"{kind}/{name}": data})
        digest = (hashlib.sha1 if kind == cifar10.BINARY else hashlib.md5)(data)
        monkeypatch.setitem(digests, name, digest.hexdigest())
    monkeypatch.setattr(pickle, "loads", None)
    found = datasets.load("cifar10", tmp_path, download=False)
    assert (found.train_x.shape, found.test_x.shape) == ((20, 3, 32, 32), (4, 3, 32, 32))
    assert found.test_y.tolist() == [0, 1, 2, 9]
    assert found.train_y.tolist() == [0, 1, 2, 9] * 5
    assert found.test_x[3].flatten().tolist() == rows[3].tolist()
    assert found.classes[9] == "truck"
    last = tmp_path / kind / list(made)[-1]
    last.write_bytes(made[last.name][:-1])
    with pytest.raises(DataError, match=r"test_batch.* is corrupted"):
        datasets.load("cifar10", tmp_path, download=False)
    last.unlink()
    with pytest.raises(DataError, match=r"test_batch.* cannot be read"):
        datasets.load("cifar10", tmp_path, download=False)
