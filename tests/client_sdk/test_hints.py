"""Commands in what is printed name the interpreter that runs them."""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import client_sdk
from client_sdk import hints


@pytest.mark.parametrize(
    ("executable", "folder", "shown"),
    [
        ("/home/me/fl/.venv/bin/python", "/home/me/fl", ".venv/bin/python"),
        ("/home/me/fl/.venv/bin/python", "/home/me/fl/runs", "../.venv/bin/python"),
        ("/home/me/fl/.venv/bin/python", "/home/me/fl/.venv/bin", "./python"),
        ("/usr/bin/python3.11", "/home/me/somewhere/else", "/usr/bin/python3.11"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths as POSIX writes them")
def test_the_shorter_of_two_paths_to_the_interpreter(monkeypatch, executable, folder, shown):
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(os, "getcwd", lambda: folder)
    assert hints.python() == shown
    assert (
        hints.command("predict", "my photo.png") == f"{shown} -m client_sdk predict 'my photo.png'"
    )
    assert hints.install("a[b]") == f"{shown} -m pip install 'a[b]'"
    assert f"{shown} -m pip install" in hints.missing("torch")


@pytest.mark.parametrize(
    ("typed", "path", "shown"),
    [
        ("/home/me/fl/.venv/bin/serverless-fl", "/home/me/fl/.venv/bin", "serverless-fl"),
        ("/home/me/fl/.venv/bin/serverless-fl", "/usr/bin", ".venv/bin/serverless-fl"),
        ("/opt/fl/serverless-fl", "/usr/bin", "/opt/fl/serverless-fl"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths as POSIX writes them")
def test_the_installed_command_is_named_where_it_was_typed(monkeypatch, typed, path, shown):
    found = "/home/me/fl/.venv/bin/serverless-fl" if ".venv" in path else None
    monkeypatch.setattr(sys, "argv", [typed, "predict"])
    monkeypatch.setattr(os, "getcwd", lambda: "/home/me/fl")
    monkeypatch.setattr(hints.shutil, "which", lambda name: found)
    assert hints.command("predict", "my photo.png") == f"{shown} predict 'my photo.png'"
    assert hints.command_elsewhere("join") == "serverless-fl join"


def test_elsewhere_there_is_a_python_of_any_path():
    assert hints.command_elsewhere("join", "a b") == "python -m client_sdk join 'a b'"


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_a_shell_runs_what_a_hint_says(tmp_path, monkeypatch):
    """Also where the interpreter's path has a space, and is relative to the working folder."""
    (tmp_path / "my env").mkdir()
    (tmp_path / "my env" / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env" / "python"))
    interpreter = shlex.split(hints.command())[0]
    said = f"{shlex.quote(interpreter)} -S -c 'print(6 * 7)'"
    assert hints.command().startswith(shlex.quote(interpreter))
    assert subprocess.check_output(["/bin/sh", "-c", said], text=True) == "42\n"


def test_no_printed_command_names_a_bare_python_or_pip():
    """Whatever they are in PATH, they may lack this package."""
    (root,) = client_sdk.__path__
    for path in Path(root).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        documented = [
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        for text in texts:
            if isinstance(text, str) and text not in documented and path.name != "hints.py":
                assert "python -m" not in text, path
                assert "pip install" not in text, path
