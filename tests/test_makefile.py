"""What `make` says to whoever has another Python."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")


@needs_make
@pytest.mark.parametrize("target", ["run", ".venv-sam/ready"])
@pytest.mark.parametrize("python", ["old", "missing"])
def test_an_old_python_is_told_that_another_is_needed(tmp_path, target, python):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "old"
    # What Python 3.10 would answer to the question for its version.
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; "
        'sys.version_info = (3, 10); exec(sys.argv[1])\' "$2"\n'
    )
    old.chmod(0o755)
    done = subprocess.run(
        ["make", target, f"PYTHON={tmp_path / python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "is not Python 3.11 or newer" in done.stdout
    assert not (tmp_path / ".venv").exists()
