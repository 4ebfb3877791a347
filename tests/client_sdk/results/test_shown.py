"""Words of strangers on their way to a terminal: no markup, no control characters, one line."""

import io
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from app.telemetry.logs import ConsoleFormatter
from client_sdk import errors
from client_sdk.cli import command_line, predict_command
from client_sdk.data import datasets
from client_sdk.participant import Event
from client_sdk.results import plots, progress, summary
from client_sdk.results.console import Output
from client_sdk.results.join_progress import JoinProgress
from client_sdk.simulation.outcome import Row
from client_sdk.task import model_file, models
from client_sdk.task.evaluation import Classes

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\n"
MARKUP = "all [/red] done [link=http://evil]here[/link] [bold]x[/]"
WORDS = f"{ESCAPE}{MARKUP}"


@pytest.fixture(params=[True, False], ids=["terminal", "log"])
def console(request):
    """A console and what was written to it."""
    made = Output(to_stderr=False)
    made.file = io.StringIO()
    made._force_terminal = request.param
    made._color_system = None
    made.width = 200
    return made


def require_clean(text):
    """Apart from line ends, and rich's own sequences for the cursor and for styles."""
    assert "owned" in text
    assert MARKUP in text
    for control in ("\x1b]", "\x07", "\x1b[2J\x9b", "\x9b", "\u202e"):
        assert control not in text


def row(reason):
    return Row(
        round=1,
        metrics={"accuracy": 0.5, "loss": 1.0},
        seconds=1.0,
        bytes_up=1,
        bytes_down=1,
        updates=1,
        attempts=1,
        sha256="",
        federated={},
        refused={"client-01": reason},
    )


def test_a_line(console):
    console.say(WORDS)
    require_clean(console.file.getvalue())
    assert console.file.getvalue().count("\n") == 1


@pytest.mark.parametrize("kind", ["refused", "late", "unevaluated", "unmeasured"])
def test_what_happens_in_a_run(console, kind):
    view = progress.PlainProgress(console, 3)
    view.watchers.on_event(Event(kind, "client-01", 1, WORDS))
    require_clean(console.file.getvalue())
    assert console.file.getvalue().count("\n") == 1


def test_the_picture_of_a_run(console):
    view = progress.LiveProgress(console, 3)
    view.watchers.on_experiment(
        SimpleNamespace(round=1, progress=WORDS, current_round=None, state="running")
    )
    view.watchers.on_row(row("x"))
    console.print(view._draw())
    require_clean(console.file.getvalue().replace("…", MARKUP))


def test_who_was_refused_in_a_round(console):
    console.width = 1000
    console.print(progress.rounds_table([row(WORDS)]))
    require_clean(console.file.getvalue())


def test_the_end_of_a_run(console):
    classes = Classes((WORDS, "b"), [[0, 1], [0, 1]])
    report = {
        "state": "failed",
        "reason": WORDS,
        "always_refused": [{"client": "client-01", "reason": WORDS}],
        "warnings": [WORDS],
        "cost": None,
        "models": [{"clients": None}],
        "totals": {
            **{"final_accuracy": 0.5, "best_accuracy": 0.5, "best_round": 1, "final_loss": 1.0},
            "final_metrics": {"accuracy": 0.5, "loss": 1.0},
            **{"wall_seconds": 1.0, "bytes_up": 1, "bytes_down": 1},
        },
    }
    summary.print_summary(console, report, [row(WORDS)], classes, [Path(f"x{MARKUP}.safetensors")])
    require_clean(console.file.getvalue())


@pytest.mark.parametrize("kind", ["waiting", "done", "refused", "late"])
def test_the_life_of_a_client(console, kind):
    JoinProgress(console.say, 3)(Event(kind, "client-01", 1, WORDS))
    require_clean(console.file.getvalue())


async def test_the_classes_of_a_strangers_model(console, tmp_path):
    digits = datasets.load("digits", tmp_path)
    spec = models.spec_for("auto", digits.shape, len(digits.classes))
    strange = replace(digits, classes=tuple(f"{n}{WORDS}" for n in range(10)))
    data = model_file.to_bytes(models.build(spec, 1), model_file.describe(strange, spec))
    (tmp_path / "m.safetensors").write_bytes(data)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    arguments = SimpleNamespace(
        images=[tmp_path / "a.png"], model=tmp_path / "m.safetensors", top=3, json=False, task=None
    )
    assert await predict_command.execute(arguments, console) == 0
    require_clean(console.file.getvalue())
    assert console.file.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        errors.RequestRefused(409, f"full{ESCAPE}", WORDS),
        errors.BadAnswer(WORDS),
        errors.DataError(WORDS),
        errors.BadSettings(WORDS),
        RuntimeError(WORDS),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error(error, monkeypatch, capsys, tmp_path):
    def failing(*_):
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_line, "_dispatch", failing)
    assert command_line.run(["predict", "x.png"]) != 0
    require_clean(capsys.readouterr().err)


def test_a_log_for_a_terminal():
    try:
        raise ValueError(WORDS)
    except ValueError as error:
        fault = (type(error), error, error.__traceback__)
    record = logging.LogRecord("app", logging.ERROR, "", 0, WORDS, (), fault)
    told = ConsoleFormatter().format(record)
    assert told.count(MARKUP) == 2
    assert all(line.isprintable() for line in told.split("\n"))


def test_names_that_look_like_formulas_are_drawn():
    for name in ("$", "$\\frac{", "$x_$", WORDS):
        classes = Classes((name, "b"), [[1, 1], [0, 1]])
        assert plots.evaluation(classes, f"{name}, x").startswith(b"\x89PNG")
