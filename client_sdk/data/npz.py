"""The arrays in an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from client_sdk.errors import DataError


def load(path: Path) -> dict[str, np.ndarray]:
    """Give all arrays of the file. Raises DataError, also for a pickled one."""
    try:
        # The file is opened here because NumPy leaves it open where the archive is broken.
        with path.open("rb") as file, zipfile.ZipFile(file):
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as an .npz file of plain arrays: {error}"
        ) from error
