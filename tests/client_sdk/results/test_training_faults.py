"""A run that went wrong says so, though it completed; its best model is kept beside the last."""

import json
from pathlib import Path

import pytest
import safetensors.numpy

from client_sdk.cli import command_line
from client_sdk.data import datasets
from client_sdk.results import report
from client_sdk.results.training_faults import chance, warnings_of
from client_sdk.simulation.outcome import Row, best_of
from client_sdk.task.evaluation import Classes
from client_sdk.task.task import LocalUpdate
from tests.support.digits import digits_simulation
from tests.support.trained import trained_on

TEN = Classes(tuple("abcdefghij"), [[100 * (c == p) for p in range(10)] for c in range(10)])


def row(number, accuracy, loss, train_loss=1.0):
    return Row(
        round=number,
        metrics={"accuracy": accuracy, "loss": loss},
        seconds=1.0,
        bytes_up=1,
        bytes_down=1,
        updates=2,
        attempts=1,
        sha256="0" * 64,
        federated={"train_loss": train_loss},
    )


def rows(*figures):
    return [row(number, *found) for number, found in enumerate(figures, 1)]


def test_chance_is_the_largest_class_and_the_test_sets_own_error():
    assert chance(TEN) == pytest.approx(0.1 + 3 * (0.1 * 0.9 / 1000) ** 0.5)
    assert chance(Classes(("a", "b"), [[90, 0], [10, 0]])) == pytest.approx(0.99)


def test_the_best_round_is_by_accuracy_then_loss_then_the_first():
    found = rows((0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.1))
    assert best_of(found).round == 3


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ([(0.5, 1.4), (0.1, 2.3)], ["diverged", "no better than guessing", "round 1", "50.00%"]),
        ([(0.11, 2.3), (0.1, 2.3)], ["no better than guessing"]),
        ([(0.1, 1e30)], ["no better than guessing", "its loss is 1e+30"]),
        ([(0.8, 0.6), (0.75, 40.0)], ["its loss is 40", "round 1"]),
        ([(0.9, 0.4), (0.6, 1.2)], ["fell to 60.00%", "round 1", "90.00%"]),
    ],
)
def test_a_run_that_diverged_is_told(figures, words):
    (sentence,) = warnings_of(rows(*figures), TEN)
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    "figures",
    [
        [(0.3, 2.0), (0.5, 1.5), (0.6, 1.2)],
        [(0.9, 0.30, 0.01), (0.95, 0.20, 0.01), (0.95, 0.21, 0.01)],
        [(0.66, 1.0), (0.65, 1.1, 0.5)],  # it rises, but there is still something to learn
        [(0.2, 5.0), (0.3, 5.0)],  # bad from the start, and getting better
    ],
)
def test_a_run_that_went_well_is_not(figures):
    assert warnings_of(rows(*figures), TEN) == []
    assert warnings_of([], None) == []


def test_learning_by_heart_is_told():
    (sentence,) = warnings_of(rows((0.6, 1.3, 0.4), (0.66, 1.35, 0.05), (0.66, 1.8, 0.03)), TEN)
    assert "by heart" in sentence
    assert "from 1.3 (round 1) to 1.8" in sentence


class Falling:
    """Sends a good model in round 1 and a useless one afterwards."""

    def __init__(self, good):
        self.good = good

    async def train(self, client_id, indices, data, task):
        if task.round == 1:
            return LocalUpdate(self.good, len(indices), {})
        flat = {name: 0 * values for name, values in safetensors.numpy.load(data).items()}
        return LocalUpdate(safetensors.numpy.save(flat), len(indices), {})


async def test_the_best_model_is_kept_beside_the_last(federation, tmp_path):
    digits = datasets.load("digits", Path("nowhere"))
    good = trained_on(digits, len(digits.train_y), epochs=6)
    simulation = digits_simulation(federation, Falling(good), clients=2, rounds=3)
    await simulation.create()
    outcome = await simulation.run()
    assert outcome.rows[0].accuracy > 0.9 > 0.2 > outcome.rows[2].accuracy
    best = safetensors.numpy.load(outcome.best)
    assert {n: v.tolist() for n, v in best.items()} == {
        n: v.tolist() for n, v in safetensors.numpy.load(good).items()
    }
    classes = Classes(digits.classes, [[1] + [0] * 9 for _ in range(10)])
    told = report.build_report(
        outcome, dataset="digits", note="", parameters=1, wall_seconds=1.0, classes=classes
    )
    assert told["totals"]["best_round"] == 1
    assert "diverged" in told["warnings"][0]
    written = report.write(tmp_path, told, outcome, classes)
    assert (tmp_path / "best.safetensors").read_bytes() == outcome.best
    assert (tmp_path / "global.safetensors").read_bytes() == outcome.weights != outcome.best
    assert {f.name for f in written} >= {"best.safetensors", "global.safetensors"}
    assert (
        json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["warnings"]
        == told["warnings"]
    )
    # One that comes back later, when all is over, fetches it again.
    again = digits_simulation(federation, Falling(good), clients=2, rounds=3)
    await again.create()
    assert (await again.run()).best == outcome.best


@pytest.mark.parametrize("size", ["0", "-5"])
def test_a_batch_size_of_nothing_is_refused_and_not_chosen(size, capsys, tmp_path):
    given = ["--dataset", "digits", "--batch-size", size, "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="2"):  # argparse's way
        command_line.run(given)
    assert "--batch-size" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
