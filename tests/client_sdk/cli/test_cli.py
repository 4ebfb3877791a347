"""The command line in this process: what is wrong is one sentence and a documented code."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from client_sdk import exit_codes
from client_sdk.cli import command_line, error_log, predict_command, run_command, values
from client_sdk.errors import RequestRefused, StateConflict, UsageError
from client_sdk.results import run_folder
from client_sdk.results.console import Output, printable


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs a command line in an empty folder; gives its code and what it printed as an error."""
    monkeypatch.chdir(tmp_path)
    for name in ("FL_ADMIN_KEY", "FL_ENROL_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        try:
            code = command_line.run([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's way
            code = end.code
        return code, capsys.readouterr().err

    return run


DIGITS = ("--dataset", "digits")
AWAY = ("--server", "http://127.0.0.1:9")
CREATE = ("create", *AWAY, "--admin-key", "k" * 20, "--clients", "2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*DIGITS, "--clients", "0"], "--clients: must be a whole number, 1 to"),
        (["--clients", "five"], "--clients: must be a whole number, 1 to 100,000"),
        ([*DIGITS, "--clients-per-round", "30"], "--clients-per-round (30) is more than --clie"),
        ([*DIGITS, "--clients", "5000"], "cannot be shared among 5000 clients"),
        ([*DIGITS, "--learning-rate", "nan"], "--learning-rate: must be a number, above 0"),
        ([*DIGITS, "--batch-size", "0"], "--batch-size: must be a whole number, 1 to"),
        (["--dataset", "nonsense"], "There is no data set 'nonsense'"),
        ([*DIGITS, "--model", "resnet"], "There is no model 'resnet'"),
        ([*DIGITS, *AWAY], "FL_ADMIN_KEY"),
        ([*DIGITS, "--resume"], "There is no run under runs/"),
        ([*DIGITS, "--resume", "--out", "no/such/run"], "no run in no/such/run to resume"),
        (["open", "no/such/run"], "no run in no/such/run to open"),
        ([*DIGITS, "--server", "http://x", "--admin-key", "k" * 20, "--keep-serving"], "--keep"),
        ([*DIGITS, "--initial-model", "no.safetensors"], "The model no.safetensors cannot be"),
        ([*DIGITS, "--from-run", "no/such/run:3"], "There is no run in no/such/run"),
        ([*DIGITS, "--from-experiment", "x:3"], "--from-experiment needs the --server"),
        ([*DIGITS, "--from-experiment", "a/../b"], "is no experiment's id"),
        ([*DIGITS, "--from-run", "a", "--initial-model", "b"], "not allowed with"),
        ([*CREATE, "--initial-model", "no.safetensors"], "The model no.safetensors cannot be"),
        ([*CREATE, "--initial-model", "x", "--label", "y"], "leave out the other words"),
        ([*DIGITS, "--out", "/proc/nowhere"], "Cannot write to /proc/nowhere"),
        (["--server", "localhost:1", "--admin-key", "k" * 20], "is no http"),
        (["--server", "http://localhost:80a"], "is no "),
        (["--server", "http://localhost:99999"], "is no "),
        (["--server", "http://localhost:0"], "is no "),
        (["--server", "http://[::1"], "is no address"),
        ([*AWAY, "--admin-key", "schlüssel-0123456789"], "a key has letters"),
        (["--admin-key", "one\ntwo"], "a key has letters"),
        (["--workers", "1e3"], "is no whole number"),
        (["--name", "K\udcf6ln"], "is not text"),
        (["join", *AWAY, "--experiment", "x"], "FL_ENROL_KEY"),
        (["join", *AWAY, "--experiment", "a/../b"], "is no experiment's id"),
        (
            [*("join", *AWAY, "--experiment", "x", "--enrol-key", "k"), "--wake-url", "https://x"],
            "--wake-url goes with --once",
        ),
        (["join", *AWAY, "--experiment", "x\ny"], "is no experiment's id"),
        (
            ["join", *AWAY, "--enrol-key", "k", "--experiment", "x", "--key-file", "."],
            "client's key",
        ),
        (["verify", *AWAY, "--experiment", "x"], "FL_ADMIN_KEY"),
        (["verify", *AWAY, "--experiment", "x", "--round", "0"], "must be at least 1"),
        (["predict", "x.png", "--model", "nowhere"], "The model nowhere cannot be read"),
        (["export", "--model", "nowhere", "--out", "x.onnx"], "The model nowhere cannot be read"),
        (["export", "--out", "x.unknown"], "--format"),
    ],
)
def test_bad_usage_is_one_sentence_and_a_code(command, arguments, says):
    code, told = command(*arguments)
    assert code == exit_codes.USAGE
    assert says in told
    assert told.startswith("error: ")
    assert len(told.splitlines()) == 1


def test_a_refused_key_is_not_shown(command):
    assert "geheim" not in command("--admin-key", "geheim-geheim-ü")[1]


def test_a_key_is_taken_without_the_end_of_its_line():
    assert values.key("0123456789abcdef\r\n") == "0123456789abcdef"


def test_a_binary_key_file_is_told_of(command, tmp_path):
    path = tmp_path / "binary.key"
    path.write_bytes(b"\xff\xfe\x00")
    code, told = command("join", *AWAY, "--experiment", "x", "--enrol-key", "k", "--key-file", path)
    assert (code, "binary.key" in told) == (exit_codes.USAGE, True)


def test_a_resume_with_other_settings_speaks_of_settings(command, monkeypatch):
    async def refuse(arguments, console):
        raise StateConflict(409, "idempotency-key-reused", "This Idempotency-Key made another.")

    monkeypatch.setattr(run_command, "execute", refuse)
    code, told = command(*DIGITS, "--resume", "--out", "x")
    assert code == exit_codes.USAGE
    assert "made with other settings" in told
    assert "Idempotency" not in told


def test_a_refused_setting_is_told_by_its_flag(command, monkeypatch):
    async def refuse(arguments, console):
        raise RequestRefused(422, "too-many-clients", "clients (200) is more than 100 clients.")

    monkeypatch.setattr(run_command, "execute", refuse)
    code, told = command(*DIGITS, "--clients", "200")
    assert code == exit_codes.REFUSED
    assert "refused: --clients (200) is more than 100 clients." in told


@pytest.mark.parametrize("content", [b"\xff", b"[]", b"{}", b'{"secret": 1, "admin_key": "x"}'])
def test_a_run_that_is_none_is_not_resumed(command, tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    code, told = command(*DIGITS, "--resume", "--out", tmp_path)
    assert (code, "to resume" in told) == (exit_codes.USAGE, True)


def test_runs_that_begin_at_once_have_folders_of_their_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = [run_folder._make_folder(run_folder.RUNS / "20260101-000000") for _ in range(4)]
    assert len(set(found)) == 4
    assert all(folder.is_dir() for folder in found)


def test_a_run_does_not_take_the_folder_of_another(tmp_path):
    run_folder.new(tmp_path)
    saved = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UsageError, match="holds a run already"):
        run_folder.new(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == saved


def test_a_run_that_goes_on_is_not_resumed_beside_itself(command, tmp_path):
    folder = run_folder.new(tmp_path)
    with folder.locked():
        code, told = command(*DIGITS, "--resume", "--out", tmp_path)
    assert (code, "Another process is at the run in" in told) == (exit_codes.USAGE, True)
    with folder.locked():  # it was given back
        pass


@pytest.mark.parametrize("line_ends_in", ["the reason.", "two\nlines"])
def test_what_nobody_foresaw_is_a_sentence_and_a_file(command, monkeypatch, tmp_path, line_ends_in):
    def fail(*_):
        raise RuntimeError(line_ends_in)

    monkeypatch.setattr(predict_command, "execute", fail)
    code, told = command("predict", "x.png")
    assert code == exit_codes.UNFORESEEN
    assert len(told.splitlines()) == 1
    assert "RuntimeError" in told
    assert error_log.NAME in told
    assert "Traceback" in (tmp_path / error_log.NAME).read_text(encoding="utf-8")


def test_the_traceback_of_a_run_lies_beside_its_results(command, monkeypatch, tmp_path):
    async def fail(arguments, console):
        raise RuntimeError("of this test")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(run_command, "execute", fail)
    assert command(*DIGITS, "--out", tmp_path / "out")[0] == exit_codes.UNFORESEEN
    assert "of this test" in (tmp_path / "out" / error_log.NAME).read_text(encoding="utf-8")


def test_a_traceback_that_finds_no_room_is_still_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(error_log.tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    told = error_log.log_unexpected(RuntimeError("x"), tmp_path / "nowhere")
    assert told == "An unexpected error: RuntimeError: x."


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(13, "Permission denied", "a/file"), "a/file: Permission denied"),
        (MemoryError(), "memory"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "torch is not installed"),
    ],
)
def test_what_the_machine_lacks_is_no_traceback(command, monkeypatch, error, says):
    def fail(*_):
        raise error

    monkeypatch.setattr(predict_command, "execute", fail)
    code, told = command("predict", "x.png")
    assert (code, says in told, len(told.splitlines())) == (exit_codes.USAGE, True, 1)


def test_a_reader_that_goes_away_is_no_failed_experiment(command, monkeypatch):
    def fail(*_):
        raise BrokenPipeError

    monkeypatch.setattr(predict_command, "execute", fail)
    monkeypatch.setattr(command_line, "discard_stdout", lambda: None)  # pytest needs it
    code, told = command("predict", "x.png")
    assert code == 130
    assert told.startswith("error: The output was closed.")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_letters_that_the_output_lacks_are_printed_as_escapes(monkeypatch, encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)

    async def show(arguments, console):
        console.print("кот ✓")
        return 0

    monkeypatch.setattr(predict_command, "execute", show)
    assert command_line.run(["predict", "x.png"]) == 0
    assert rb"\u043a\u043e\u0442" in raw.getvalue()


def test_a_mark_is_one_that_the_output_has(monkeypatch):
    for encoding, wanted in (("utf-8", "✓"), ("ascii", "ok"), ("cp1252", "ok")):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert printable(Output(to_stderr=False), "✓", "ok") == wanted


def test_every_code_is_documented():
    documented = {int(line.split()[0]) for line in exit_codes.TEXT.splitlines()[1:]}
    assert documented == {0, *range(1, 12), 130}


def test_modules_of_the_working_folder_do_not_matter(tmp_path):
    (tmp_path / "app").mkdir()
    for name in ("app.py", "app/__init__.py", "random.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    done = subprocess.run(
        [sys.executable, "-m", "client_sdk", "export", "--model", "nowhere", "--out", "x.onnx"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(command_line.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_codes.USAGE, done.stderr
    assert done.stderr.startswith("error: The model nowhere cannot be read")


def test_commands_that_train_nothing_do_not_wait_for_pytorch():
    script = """
import sys
from client_sdk.cli import command_line
sys.modules["torch"] = None  # its import is an error
for command in ("verify", "delete"):
    assert command_line.run([command, "--server", "http://127.0.0.1:9", "--experiment", "x"]) == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert [line.split(" needs ")[0] for line in done.stderr.splitlines()] == [
        "error: verify",
        "error: delete",
    ]


@pytest.mark.parametrize("out", ["missing/model.safetensors", "."])
def test_where_the_model_goes_is_tried_before_a_client_joins(tmp_path, capsys, out):
    """Nobody listens at that address: the sentence comes before the first request."""
    words = ["join", "--server", "http://127.0.0.1:9", "--experiment", "e", "--enrol-key", "k" * 20]
    done = command_line.run([*words, "--data", "x.csv", "--out", str(tmp_path / out)])
    assert done == exit_codes.USAGE
    assert "Cannot write" in capsys.readouterr().err
