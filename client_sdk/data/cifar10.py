"""CIFAR-10 from its six files, of the binary or of the Python version.

A binary file holds rows of one label and 3,072 bytes of pixels, planes of red, green and blue
(https://www.cs.toronto.edu/~kriz/cifar.html). The Python version's files are pickles: the reader
lists their operations, as a disassembler does, and executes none. It compares each file with the
published digest first.
"""

from __future__ import annotations

import hashlib
import pickletools  # a disassembler, which executes nothing  # nosec B403
from pathlib import Path

import numpy as np

from client_sdk.data.dataset import Part, Parts
from client_sdk.data.download import download
from client_sdk.data.preparation import Preparation
from client_sdk.errors import DataError

BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"  # the folders of each version
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# The test part is the last file of each. Digests are SHA-1 of binary files, MD5 of the others.
BINARY_FILES = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}
PYTHON_FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_ARCHIVES = {
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"
}
_STRINGS = {"SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINUNICODE"}


def read(data_dir: Path, allowed: bool) -> Parts:
    """Read CIFAR-10; download it where it is not in `data_dir` and that is `allowed`.

    Raises DataError.
    """
    if not (data_dir / BINARY).is_dir() and not (data_dir / PYTHON).is_dir():
        download(
            _ARCHIVES,
            data_dir,
            missing=f"CIFAR-10 is not in {data_dir}",
            instead=f"unpack {next(iter(_ARCHIVES))} into {data_dir}",
            allowed=allowed,
        )
    if (data_dir / BINARY).is_dir():
        read_rows, files, folder = _binary, BINARY_FILES, data_dir / BINARY
    else:
        read_rows, files, folder = _pickled, PYTHON_FILES, data_dir / PYTHON
    *train, test = [read_rows(_verified(folder / name, d)) for name, d in files.items()]
    images = np.concatenate([x for x, _ in train])
    labels = np.concatenate([y for _, y in train])
    return Parts(CLASSES, (images, labels), test, Preparation(3, 32, 32, fit="crop"))


def _verified(path: Path, digest: str) -> bytes:
    """A file's bytes. Raises DataError where it is not the published file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    # The published digests are MD5 and SHA-1. They find damage; a forged file could at most hold
    # other pictures.
    algorithm = "sha1" if len(digest) == 40 else "md5"
    if hashlib.new(algorithm, data, usedforsecurity=False).hexdigest() != digest:
        raise DataError(f"{path} is corrupted: it is not the published file; fetch it again.")
    return data


def _binary(data: bytes) -> Part:
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return rows[:, 1:].reshape(-1, 3, 32, 32).copy(), rows[:, 0].astype(np.int64)


def _pickled(data: bytes) -> Part:
    """The longest string holds the pixels; small numbers after the word `labels` are the labels."""
    pixels, word = b"", ""
    labels: list[object] = []
    for operation, value, _ in pickletools.genops(data):
        if operation.name in _STRINGS:
            text = value if isinstance(value, bytes) else str(value).encode("latin-1")
            pixels, word = max(pixels, text, key=len), text[:8].decode("latin-1")
        elif operation.name == "BININT1" and word == "labels":
            labels.append(value)
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 3, 32, 32).copy()
    return images, np.array(labels, np.int64)
