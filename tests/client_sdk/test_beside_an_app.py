"""The SDK where a user has an app.py, or a package app/, of their own."""

import os
import subprocess
import sys
from pathlib import Path

import client_sdk

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules["app"] = None  # its import is an error
names = []
for name in ("serverless_fl", "client_sdk"):
    package = importlib.import_module(name)
    names += [found.name for found in pkgutil.walk_packages(package.__path__, f"{name}.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_no_module_imports_app():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80


def test_a_run_completes_beside_an_app_of_the_users_own(tmp_path):
    (tmp_path / "app").mkdir()
    for name in ("app.py", "app/__init__.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong app')")
    settings = "--dataset digits --clients 3 --clients-per-round 2 --rounds 1 --local-epochs 1"
    done = subprocess.run(
        [sys.executable, "-m", "client_sdk", "run", *settings.split(), "--workers", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(client_sdk.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout
    assert len(list(tmp_path.glob("runs/*/global.safetensors"))) == 1
