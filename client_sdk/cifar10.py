"""CIFAR-10's six files, as the archive of its Python version unpacks them.

They are pickles (https://www.cs.toronto.edu/~kriz/cifar.html). Each is compared with the digest of
the original before it is read, so that nobody else's file is ever unpickled.
"""

from __future__ import annotations

import hashlib
import pickle  # nosec B403
from pathlib import Path

import numpy as np

from client_sdk.errors import DataError

FOLDER = "cifar-10-batches-py"
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_TRAIN = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
}
_TEST = {"test_batch": "40351d587109b95175f43aff81a1287e"}

Part = tuple[np.ndarray, np.ndarray]


def read_files(folder: Path) -> tuple[Part, Part]:
    """(images [N, 3, 32, 32], labels [N]) of the training and the test part. Raises DataError."""
    train = [_read(folder / name, digest) for name, digest in _TRAIN.items()]
    test = [_read(folder / name, digest) for name, digest in _TEST.items()]
    return _joined(train), _joined(test)


def _joined(batches: list[Part]) -> Part:
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def _read(path: Path, md5: str) -> Part:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    # MD5 is what is published; it still withstands a second file of a given digest.
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"{path} is corrupted: it is not the published file; fetch it again.")
    batch = pickle.loads(data, encoding="bytes")  # noqa: S301  (the original)  # nosec B301
    images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
    return images, np.asarray(batch[b"labels"], np.int64)
