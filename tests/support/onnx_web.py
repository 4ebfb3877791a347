"""ONNX Runtime Web's files, from its npm package: fetched once, into the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from app.config import ONNX_FILES

PACKAGE = "onnxruntime-web@1.30.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serverless-fl"


def runtime_folder() -> Path:
    """The folder with the two files. Skips the test where npm cannot fetch them."""
    folder = CACHE / PACKAGE
    if all((folder / name).is_file() for name in ONNX_FILES):
        return folder
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which fetches ONNX Runtime Web")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        fetch = [npm, "pack", "--silent", PACKAGE, "--pack-destination", work]
        try:
            done = subprocess.run(
                fetch, check=False, cwd=work, capture_output=True, text=True, timeout=120
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm does not answer, so there is no {PACKAGE}")
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["no reason"]
            pytest.skip(f"npm cannot fetch {PACKAGE}: {said[0][:200]}")
        (archive,) = Path(work).glob("*.tgz")
        made = Path(work) / "made"
        made.mkdir()
        with tarfile.open(archive) as packed:
            for name in ONNX_FILES:
                (made / name).write_bytes(packed.extractfile(f"package/dist/{name}").read())
        if not folder.exists():  # else another process was faster
            made.replace(folder)
    return folder
