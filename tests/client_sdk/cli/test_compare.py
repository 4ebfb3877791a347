"""`python -m client_sdk compare`, over reports in folders."""

import json

import pytest
from PIL import Image

from client_sdk import exit_codes
from client_sdk.cli import command_line

CONFIG = {"dataset": "digits", "dataset_size": 1437, "model": "digits-cnn", "strategy": "fedavg"}


def row(number, accuracy, loss, **metrics):
    figures = {"round": number, "accuracy": accuracy, "loss": loss, "metrics": metrics}
    return {**figures, "seconds": 2.0, "bytes_up": 1000, "bytes_down": 1000, "updates": 10}


@pytest.fixture
def runs(tmp_path):
    """Make a function that writes a run's report and returns its folder."""

    def make(name, rows, **config):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        report = {"state": "completed", "config": {**CONFIG, **config}, "rounds": rows}
        (folder / "report.json").write_text(json.dumps(report))
        return folder

    return make


def compare(tmp_path, *words):
    return command_line.run(["compare", *map(str, words), "--out", str(tmp_path / "c.png")])


def test_a_table_names_what_differs_and_what_each_run_reached(runs, tmp_path, capsys):
    plain = runs("plain", [row(1, 0.5, 1.0), row(2, 0.8, 0.6), row(3, 0.75, 0.7)], momentum=0.5)
    adam = runs("adam", [row(1, 0.9, 0.3)], momentum=0.9, strategy={"name": "fedadam", "tau": 0.1})
    assert compare(tmp_path, plain, adam) == 0
    lines = {
        cells[1].strip(): [c.strip() for c in cells[2:4]]
        for line in capsys.readouterr().out.splitlines()
        if len(cells := line.replace("┃", "│").split("│")) == 5
    }
    assert lines[""] == ["plain", "adam"]
    assert lines["strategy"] == ["fedavg", "fedadam, tau 0.1"]
    assert lines["momentum"] == ["0.5", "0.9"]
    assert "dataset_size" not in lines
    assert lines["rounds closed"] == ["3", "1"]
    assert lines["accuracy, last"] == ["75.00%", "90.00%"]
    assert lines["accuracy, best"] == ["80.00% (round 2)", "90.00% (round 1)"]
    assert lines["seconds"] == ["6.0", "2.0"]
    assert lines["traffic"] == ["6.0 kB", "2.0 kB"]
    with Image.open(tmp_path / "c.png") as figure:
        assert figure.size[0] > 1000


def test_of_a_loss_the_least_is_the_best(runs, tmp_path, capsys):
    one = runs("one", [row(1, 0.5, 0.4), row(2, 0.4, 0.9)])
    command = ["compare", str(one), "--metric", "loss", "--json", "--out", str(tmp_path / "c.png")]
    assert command_line.run(command) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["best"], found["best_round"], found["last"]) == (0.4, 1, 0.9)


def test_any_metric_that_every_round_has(runs, tmp_path, capsys):
    one = runs("one", [row(1, 0.5, 1.0, auc=0.7), row(2, 0.5, 1.0, auc=0.9)])
    other = runs("other", [row(1, 0.5, 1.0, auc=0.7), row(2, 0.5, 1.0)])
    assert compare(tmp_path, one, "--metric", "auc") == 0
    assert "90.00% (round 2)" in capsys.readouterr().out
    assert compare(tmp_path, one, other, "--metric", "auc") == exit_codes.USAGE
    error = capsys.readouterr().err
    assert "other has no metric 'auc' in each round; it has: accuracy, loss" in error


def test_folders_of_one_name_are_told_apart(runs, tmp_path, capsys):
    first, second = runs("a/run", [row(1, 0.5, 1.0)]), runs("b/run", [row(1, 0.6, 1.0)])
    assert compare(tmp_path, first, second) == 0
    assert "run (2)" in capsys.readouterr().out


def test_a_run_that_made_no_model_has_no_metric_to_compare(runs, tmp_path, capsys):
    assert compare(tmp_path, runs("none", [])) == exit_codes.USAGE
    assert "no metric in common" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        '{"config": {}, "state": "x"}',
        '{"config": [], "state": "x", "rounds": []}',
        '{"config": {}, "state": "x", "rounds": [{"round": 1, "accuracy": 0.5}]}',
        '{"config": {}, "state": "x", "rounds": [{"round": "1", "seconds": 1, "accuracy": 1}]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_report_is_named(runs, tmp_path, capsys, content):
    folder = tmp_path / "broken"
    folder.mkdir()
    if content is not None:
        (folder / "report.json").write_text(content)
    assert compare(tmp_path, folder) == exit_codes.USAGE
    error = capsys.readouterr().err
    assert "report.json" in error
    assert error.count("\n") == 1


def test_a_figure_that_cannot_be_written(runs, tmp_path, capsys):
    run = runs("one", [row(1, 0.5, 1.0)])
    missing = tmp_path / "missing" / "c.png"
    assert command_line.run(["compare", str(run), "--out", str(missing)]) == exit_codes.USAGE
    assert "Cannot write" in capsys.readouterr().err
