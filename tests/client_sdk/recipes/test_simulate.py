"""`simulate` in a script, a thread and a running loop, with NumPy, scikit-learn and PyTorch."""

import asyncio
import io
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from client_sdk.engines.processes import Processes
from client_sdk.errors import BadSettings, DataError, TrainingFailed
from client_sdk.recipes.simulate import simulate, simulate_async
from client_sdk.task import weights_file
from tests.support import toy

SETTINGS = {"clients": 4, "clients_per_round": 2, "rounds": 2, "local_epochs": 3}


def test_a_script_gets_rows_the_model_and_a_plot(tmp_path):
    rows = []
    result = simulate(toy.Line(), toy.POINTS, toy.POINTS, on_row=rows.append, **SETTINGS)
    assert result.rows == rows
    assert [row.round for row in rows] == [1, 2]
    assert result.metrics == rows[-1].metrics == toy.Line().evaluate(result.weights, toy.POINTS)
    assert result.metrics["loss"] < rows[0].metrics["loss"]
    assert result.best is rows[-1]
    assert set(rows[0].federated) >= {"train_loss", "bias_before", "loss_after"}
    assert result.model["line"].shape == (2,)  # the toy has no form of its own
    with Image.open(io.BytesIO(result.plot(tmp_path / "run.png"))) as picture:
        assert picture.format == "PNG"
    assert (tmp_path / "run.png").read_bytes() == result._repr_png_()
    result.save(tmp_path / "line.safetensors")
    data = (tmp_path / "line.safetensors").read_bytes()
    assert np.array_equal(weights_file.read(data)["line"], result.weights["line"])
    about = weights_file.read_layout(data).metadata
    assert about["task"] == "line"
    assert json.loads(about["terms"]) == {"loss": "mean squared error"}


def test_a_simulation_begins_from_a_model_and_ends_at_a_target(tmp_path):
    first = simulate(toy.Line(), toy.POINTS, toy.POINTS, **SETTINGS)
    path = tmp_path / "line.safetensors"
    first.save(path)
    best = {"target_metric": "loss", "target_value": first.rows[0].metrics["loss"]}
    again = simulate(
        toy.Line(), toy.POINTS, toy.POINTS, initial_model=path, **SETTINGS | best | {"rounds": 9}
    )
    assert again.outcome.models[0].sha256 == first.rows[-1].sha256
    assert len(again.rows) == 1  # the first cohort finds that its base model is at the target
    assert "target of at most" in again.outcome.experiment.reason
    with pytest.raises(DataError, match="tensor line is"):
        simulate(toy.Line(), toy.POINTS, initial_model={"line": np.zeros(3)}, **SETTINGS)


async def test_a_running_loop_waits_or_awaits_and_gets_the_same():
    """As in a notebook, where every cell runs in a loop."""
    awaited = await simulate_async(toy.Line(), toy.POINTS, **SETTINGS)
    waited = simulate(toy.Line(), toy.POINTS, **SETTINGS)
    assert waited.outcome.weights == awaited.outcome.weights
    assert not [t for t in threading.enumerate() if t.name in ("simulation", "training_0")]
    other = await simulate_async(toy.Line(), toy.POINTS, seed=1, **SETTINGS)
    assert other.outcome.weights != awaited.outcome.weights


def test_threads_and_processes_give_the_same_too():
    def run(engine=None):
        found = simulate(toy.Line(), toy.POINTS, engine=engine, **SETTINGS)
        return found.outcome.weights

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(run, [None, Processes(1)])
    assert one == other


@pytest.mark.parametrize("in_loop", [False, True])
def test_what_a_task_raises_arrives_in_words(in_loop):
    async def in_a_loop():
        return simulate(task, toy.POINTS, **SETTINGS)

    task = toy.Failing(ZeroDivisionError("of nothing"))
    with pytest.raises(TrainingFailed, match="train method of line raised ZeroDivisionError"):
        if in_loop:
            asyncio.run(in_a_loop())
        else:
            simulate(task, toy.POINTS, **SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"round": 3}, r"no setting 'round' \(did you mean rounds\?\)"),
        ({"strategy": "fedadm"}, r"The setting strategy: .* \(did you mean fedadam\?\)"),
        (
            {"strategy": {"name": "fedadam", "beta": 0.1}},
            r"The strategy fedadam has no setting 'beta' \(did you mean beta.\?\)",
        ),
        (
            {"schedule": {"name": "buffered", "grace_seconds": 3.0}},
            "^grace_seconds is a setting of synchronous; the schedule is buffered",
        ),
        ({"q": 0.5}, 'q is a setting of a strategy: .* strategy={"name": "qfedavg", "q": ...}'),
        ({"rounds": 0}, "The setting rounds: .*greater than or equal to 1"),
        ({"clients": 41}, "40 examples cannot be shared among 41 clients"),
        ({"clients": 4, "clients_per_round": 5}, r"clients_per_round \(5\) is more than clients"),
        ({"dataset": "it"}, "sets dataset by itself"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(BadSettings, match=message):
        simulate(toy.Line(), toy.POINTS, toy.POINTS, **settings)


def test_wrong_data_are_named():
    with pytest.raises(DataError, match="A dict is no data set"):
        simulate(toy.Line(), {"x": 1})
    with pytest.raises(DataError, match="the same length, not 2 and 3 examples"):
        simulate(toy.Line(), (np.zeros(2), np.zeros(3)))


def test_a_simulation_without_networks_does_not_import_pytorch():
    """That would take longer than the whole simulation."""
    code = "import sys, client_sdk as c; c.simulate, c.SklearnTask; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "scaffold", "momentum": 0.0}, "the gradients that the strategy corrects"),
        ({"strategy": "feddyn"}, "the gradients that the strategy corrects"),
        ({"proximal_mu": 0.5}, r"proximal_mu 0\.5"),
        ({"max_gradient_norm": 2.0}, "max_gradient_norm 2"),
    ],
)
def test_a_correction_that_the_task_does_not_make_is_refused_at_once(settings, words):
    with pytest.raises(BadSettings, match=f"The task line does not train with {words}"):
        simulate(toy.Line(), toy.POINTS, toy.POINTS, **SETTINGS, **settings)


class Spoilt(toy.Line):
    """Clients whose positions are all above `limit` send weights that are no numbers."""

    def __init__(self, limit):
        self.limit = limit

    def train(self, weights, data, training, seed):
        result = super().train(weights, data, training, seed)
        if data.x.min() >= self.limit:
            result = replace(result, weights={"line": np.full(2, np.nan)})
        return result


SITES = {"north": toy.POINTS.subset(range(20)), "south": toy.POINTS.subset(range(20, 40))}


def test_a_simulation_that_learns_nothing_is_no_result():
    with pytest.raises(TrainingFailed, match="No round succeeded") as failed:
        simulate(Spoilt(0), SITES, toy.POINTS, rounds=1)
    assert "Every update of client-0" in str(failed.value)


def test_a_client_of_which_the_model_has_nothing_is_named():
    with pytest.warns(UserWarning, match="Every update of client-01 was refused"):
        result = simulate(Spoilt(20), SITES, toy.POINTS, rounds=1, quorum=1)
    assert len(result.rows) == 1


class OddFigures(toy.Line):
    def evaluate(self, weights, data):
        return super().evaluate(weights, data) | {"AUC (%)": 1.0, "f1": float("nan")}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_figures_that_cannot_be_kept_are_left_out_with_a_warning():
    with pytest.warns(UserWarning, match=r"'AUC \(%\)' is left out: a name has 1 to 64 letters"):
        result = simulate(OddFigures(), SITES, toy.POINTS, rounds=1)
    assert result.metrics.keys() == {"loss", "bias"}
