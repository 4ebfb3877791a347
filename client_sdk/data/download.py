"""Downloads published data sets with torchvision, where it can be imported.

torchvision's compiled operators load only beside the PyTorch that they were built for. `mnist` and
`cifar10` read files that are there already without torchvision.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from client_sdk.errors import DataError

_PATIENCE = 30.0  # seconds without a byte: torchvision sets no limit, and may wait for ever


def download(
    files: Mapping[str, str], folder: Path, *, missing: str, instead: str, allowed: bool
) -> None:
    """Fetch files by their URLs into `folder`, compare their MD5 digests and unpack them.

    Raises DataError where that fails. Its sentence begins with what is `missing`, goes on with the
    reason, and ends with what a user can do `instead`.
    """
    if not allowed:
        raise DataError(f"{missing}, and downloads are off: {instead}.")
    if not _reachable(next(iter(files))):
        raise DataError(f"{missing}, and there is no internet here: {instead}.")
    try:
        torchvision = importlib.import_module("torchvision.datasets.utils")
    except Exception as error:  # an ImportError, or whatever its operators raise beside this torch
        raise DataError(
            f"{missing}, and no torchvision that fits this PyTorch is installed to download it: "
            f"{instead}."
        ) from error
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        for url, md5 in files.items():
            torchvision.download_and_extract_archive(url, str(folder), md5=md5)
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{missing}, and the download failed ({error}): {instead}.") from error
    finally:
        socket.setdefaulttimeout(before)


def _reachable(url: str) -> bool:
    """Whether the server accepts a connection in three seconds; a download waits much longer."""
    if getproxies():  # a proxy answers HTTP alone
        return True
    try:
        socket.create_connection((urlsplit(url).hostname or "", 443), timeout=3).close()
    except OSError:
        return False
    return True
