"""The wheel, installed in a new environment, in a folder with an app.py of the user's own.

`make dist-check` does the same with the packages that the wheel asks for, which it downloads. Here
the new environment finds those of this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from serverless_fl import __version__
from tests.support.processes import wait_for

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "client_sdk", "serverless_fl")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def files_of(package):
    found = (path for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: setuptools writes into the folder, and would take up what lies there."""
    folder, copy = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source") / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of the new environment's commands."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in others), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    install = ("install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel))
    done = subprocess.run([*pip, *install], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python.parent


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.py").write_text("raise SystemExit('the wrong app')\n", encoding="utf-8")
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')\n", encoding="utf-8")
    return tmp_path


def environment(installed):
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return clean | {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set().union(*map(files_of, PACKAGES))
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert wheel.name == f"serverless_fl-{__version__}-py3-none-any.whl"


def run(installed, folder, *words):
    return subprocess.run(
        ["serverless-fl", *words],
        cwd=folder,
        env=environment(installed),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_writes_a_project_and_names_itself(installed, folder):
    done = run(installed, folder, "new", "mine")
    assert done.returncode == 0, done.stderr
    assert (folder / "mine" / "task.py").is_file()
    done = run(installed, folder, "split", "--nonsense")
    assert done.returncode == 2
    assert done.stderr.endswith("(see serverless-fl split --help)\n")


def test_the_coordinator_answers(installed, folder):
    with subprocess.Popen(
        [installed / "serverless-fl-coordinator", "--port", "0"],
        cwd=folder,
        env=environment(installed) | {"FL_ADMIN_KEY": "a-key-for-the-wheel", "FL_DATA_DIR": "data"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = process.stderr.readline().removeprefix("Listening on ").strip()
            health = wait_for(lambda: _get(f"{url}/health"))
            assert health.json()["status"] == "ok"
            assert "<title>" in _get(url).text
        finally:
            process.terminate()
            process.communicate(timeout=20)


def _get(url):
    try:
        return httpx.get(url, trust_env=False)
    except httpx.HTTPError:
        return None
