"""Tensors that stay at home: kept by the client, never sent."""

import numpy as np
import pytest
from torch import nn

from client_sdk.data.data import as_data
from client_sdk.errors import BadSettings, DataError
from client_sdk.recipes.simulate import simulate
from client_sdk.task import weights_file
from client_sdk.task.function_task import FunctionTask
from client_sdk.task.partly_shared import PartlyShared
from client_sdk.task.settings import TrainSettings
from client_sdk.task.torch_task import TorchTask

SETTINGS, DATA = TrainSettings(1, 1, 0.1), as_data((np.zeros(5),))


def counting(patterns, folder):
    """Each training adds one to every tensor."""
    names = ("body.w", "head.w", "head.b")
    task = FunctionTask(
        initial=lambda seed: {name: np.zeros(1) for name in names},
        train=lambda weights, *_: {name: value + 1 for name, value in weights.items()},
        evaluate=lambda weights, data: {"sum": sum(float(v[0]) for v in weights.values())},
        name="counting",
    )
    return PartlyShared(task, patterns, folder)


@pytest.mark.parametrize(
    ("patterns", "shared"),
    [
        (["*"], {"body.w", "head.w", "head.b"}),
        (["*", "!head.*"], {"body.w"}),
        (["*", "!head.*", "head.b"], {"body.w", "head.b"}),
        (["head.?"], {"head.w", "head.b"}),
    ],
)
def test_the_last_pattern_that_matches_decides(tmp_path, patterns, shared):
    task = counting(patterns, tmp_path)
    assert set(task.initial(0)) == shared
    assert set(task.train(task.initial(0), DATA, SETTINGS, 0).weights) == shared
    with pytest.raises(BadSettings, match="No tensor of counting is shared by !"):
        counting(["!*"], tmp_path).initial(0)


def test_each_client_goes_on_with_its_own_part(tmp_path):
    task, weights = counting(["*", "!head.*"], tmp_path), {"body.w": np.zeros(1)}
    for seed in range(3):
        task.for_client("client-01").train(weights, DATA, SETTINGS, seed)
    again = counting(["*", "!head.*"], tmp_path)  # as a restarted party has it
    assert again.for_client("client-01").evaluate(weights, DATA) == {"sum": 6.0}
    assert again.for_client("client-02").evaluate(weights, DATA) == {"sum": 0.0}
    assert again.evaluate(weights, DATA) == {"sum": 0.0}  # nobody's
    assert [file.name for file in tmp_path.iterdir()] == ["client-01.safetensors"]


def test_a_repeated_training_starts_from_the_same_part(tmp_path):
    task, weights = counting(["*", "!head.*"], tmp_path).for_client("c"), {"body.w": np.zeros(1)}
    for seed in (1, 2, 2, 2):
        task.train(weights, DATA, SETTINGS, seed)
    assert task.evaluate(weights, DATA) == {"sum": 4.0}


def test_a_file_of_another_task_is_refused(tmp_path):
    task = counting(["*", "!head.*"], tmp_path).for_client("c")
    data = weights_file.write({"after/other": np.zeros(3)})
    (tmp_path / "c.safetensors").write_bytes(data)
    with pytest.raises(DataError, match="are not those of counting"):
        task.evaluate({"body.w": np.zeros(1)}, DATA)


def test_fedbn_sends_no_batch_norm(tmp_path):
    """Sites whose inputs are scaled otherwise: their norms stay apart."""
    draws = np.random.default_rng(0)
    sites = {}
    for name, scale in (("A", 1.0), ("B", 100.0)):
        x = draws.normal(size=(60, 4)).astype(np.float32)
        sites[name] = (scale * x, (x[:, 0] > 0).astype(np.int64))
    inner = TorchTask(lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), name="normed")
    task = PartlyShared(inner, ["*", "!0.*"], tmp_path)
    result = simulate(task, sites, rounds=3, local_epochs=5)
    assert set(result.weights) == {"1.weight", "1.bias"}
    kept = [
        weights_file.read(file.read_bytes())["after/0.running_var"]
        for file in sorted(tmp_path.iterdir())
    ]
    assert kept[1].min() > 100 * kept[0].max()
    reports = [e for e in result.outcome.models[-1].evaluations if e.source != "central"]
    assert min(e.metrics["accuracy"] for e in reports) > 0.7
