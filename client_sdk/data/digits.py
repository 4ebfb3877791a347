"""The 8x8 digits that scikit-learn brings along: a data set that needs no download."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from client_sdk.data.dataset import Parts
from client_sdk.data.preparation import Preparation


def read(data_dir: Path, allowed: bool) -> Parts:
    """Read the digits, whose 17 shades become bytes. They have no test part of their own."""
    with gzip.open(_file()) as lines:
        table = np.loadtxt(lines, delimiter=",")  # a row: 64 shades, then the class
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8)
    labels = table[:, 64].astype(np.int64)
    preparation = Preparation(1, 8, 8, fit="digits")
    return Parts(tuple("0123456789"), (images.reshape(-1, 1, 8, 8), labels), None, preparation)


def _file() -> Path:
    """Find the file without scikit-learn's package of data sets, whose import takes a second.

    Raises ModuleNotFoundError where there is no scikit-learn.
    """
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("scikit-learn is not installed", name="scikit-learn")
    return Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
