"""predict and export of tables and of a user's own task, by the file of a model."""

from __future__ import annotations

import io
import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from client_sdk.cli import command_line
from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import describe, without_scales
from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.answers import read_inputs
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.task.sklearn_task import SklearnTask
from client_sdk.task.torch_task import TorchTask
from client_sdk.tools.export import export, export_task
from client_sdk.tools.exporters.torchscript import METADATA
from client_sdk.tools.predict_table import predict_table

ROWS = "age,sex,size,sick\n10.5,f,1,no\n20.5,m,,no\n30.5,f,3,yes\n40.5,m,5,yes\n"
TASK = """
from torch import nn
from client_sdk import TorchTask

task = TorchTask(lambda: nn.Linear(2, 3), classes=["a", "b", "c"], name="mine")
"""


def of(task, seed=1):
    return weights_file.write(task.initial(seed), task.metadata())


@pytest.fixture
def tables(tmp_path):
    """Tasks of a table, by the label."""
    path = tmp_path / "t.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path, {
        label: TableTask(describe(read_table(path, label), indicators=True), network)
        for label, network in (("sick", "mlp"), ("age", "linear"))
    }


def run_onnx(data, rows):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = session.run(None, {name: np.asarray(rows, np.float32)})[0]
    return found, session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize("label", ["sick", "age"])
def test_a_table_as_onnx_answers_as_predict_does_of_raw_numbers(tables, tmp_path, label):
    path, tasks = tables
    task, model = tasks[label], tmp_path / "m.safetensors"
    model.write_bytes(of(task))
    inputs = task.schema.inputs
    raw = {
        "sick": {"age": [10.5, 20.5, 30.5], "size": [1, np.nan, 3], "size is missing": [0, 1, 0]},
        "age": {"size": [1, np.nan, 3], "size is missing": [0, 1, 0], "sick": [0, 0, 1]},
    }[label]
    raw |= {"sex=f": [1, 0, 1], "sex=m": [0, 1, 0]}
    rows = np.stack([raw.get(name, [0, 0, 0]) for name in inputs], 1)
    found, about = run_onnx(export(of(task), "onnx", normalise=True), rows)
    told = predict_table(path, model)[:3]
    if label == "age":
        assert found[:, 0] == pytest.approx([row.answer for row in told], rel=1e-4)
    else:
        shares = torch.softmax(torch.from_numpy(found), 1).numpy()
        assert shares.max(1) == pytest.approx([row.probability for row in told], rel=1e-4)
        names = json.loads(about["classes"])
        assert [names[n] for n in shares.argmax(1)] == [row.answer for row in told]
    assert json.loads(about["inputs"]) == list(inputs)


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
def test_a_table_as_torchscript_takes_scaled_numbers(tables):
    task = tables[1]["sick"]
    extra = {METADATA: ""}
    loaded = torch.jit.load(io.BytesIO(export(of(task), "torchscript")), _extra_files=extra)
    x = torch.rand(5, len(task.schema.inputs))
    expected = task.outputs(task.initial(1), x.numpy())
    assert np.allclose(loaded(x).softmax(1).detach().numpy(), expected, atol=1e-6)
    assert "scaled by their mean" in json.loads(extra[METADATA])["input"]


def test_without_agreed_scales_there_is_nothing_to_put_into_the_graph(tables):
    task = TableTask(without_scales(tables[1]["sick"].schema))
    with pytest.raises(DataError, match="lacks the means and deviations"):
        export(of(task), "onnx", normalise=True)
    assert export(of(task), "safetensors") == of(task)


def test_a_network_of_ones_own_predicts_and_is_exported(tmp_path):
    task = TorchTask(lambda: nn.Linear(2, 3), classes=["a", "b", "c"])
    x = np.random.default_rng(0).normal(size=(4, 2))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    weights = task.initial(1)
    answers = task.predict_file(weights, tmp_path / "x.npy")
    assert answers == task.predict_file(weights, tmp_path / "x.npz")
    shares = task.model(weights)(torch.tensor(x, dtype=torch.float32)).softmax(1)
    assert [a.answer for a in answers] == ["abc"[n] for n in shares.argmax(1)]
    assert [a.probability for a in answers] == pytest.approx(shares.max(1).values.tolist())
    found, about = run_onnx(export_task(task, of(task), "onnx", lambda: x), x[:3])
    assert torch.allclose(torch.from_numpy(found).softmax(1), shares[:3], atol=1e-6)
    assert about["task"] == task.name
    assert "stack_trace" not in str(about)
    with pytest.raises(DataError, match="two inputs or more"):
        export_task(task, of(task), "onnx", lambda: x[:1])
    with pytest.raises(DataError, match="not the model's file's: task is"):
        export_task(TorchTask(lambda: nn.Linear(2, 3), name="other"), of(task), "onnx", lambda: x)


def test_a_number_of_a_network_and_of_an_estimator(tmp_path):
    from sklearn.linear_model import LinearRegression, LogisticRegression

    np.save(tmp_path / "x.npy", np.array([[1.0, 2.0], [3.0, 5.0]]))
    network = TorchTask(lambda: nn.Linear(2, 1), loss=nn.MSELoss())
    weights = {"weight": np.ones((1, 2), np.float32), "bias": np.zeros(1, np.float32)}
    assert [a.answer for a in network.predict_file(weights, tmp_path / "x.npy")] == [3.0, 8.0]
    line = SklearnTask(LinearRegression(), features=2)
    weights = {
        name: np.array([1.0, 0.0]).reshape(value.shape) if value.size == 2 else value
        for name, value in line.initial(0).items()
    }
    found = line.predict_file(weights, tmp_path / "x.npy")
    assert found[1].answer - found[0].answer == pytest.approx(2.0)
    assert found[0].probability is None
    classes = SklearnTask(LogisticRegression(), features=2, classes=["ill", "well"])
    weights = {n: np.full_like(v, 1.0) for n, v in classes.initial(0).items()}
    first = classes.predict_file(weights, tmp_path / "x.npy")[0]
    assert (first.answer, first.probability > 0.9) == ("well", True)
    np.save(tmp_path / "wide.npy", np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"rows of the shape \(3,\), not \(2,\)"):
        classes.predict_file(weights, tmp_path / "wide.npy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"1,2", "reads .npy, or x in .npz"),
        ("x.npy", b"nonsense", "no NumPy file of numbers"),
        ("x.npy", None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_input_is_told(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_inputs(tmp_path / name)


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "y.npz", y=np.zeros(1))
    with pytest.raises(DataError, match="no NumPy file of numbers"):
        read_inputs(tmp_path / "x.npy")
    with pytest.raises(DataError, match="has no array x"):
        read_inputs(tmp_path / "y.npz")


def test_the_commands_take_the_place_of_the_task(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_own_tools.py").write_text(TASK, encoding="utf-8")
    np.save("x.npy", np.eye(2))
    task = TorchTask(lambda: nn.Linear(2, 3), classes=["a", "b", "c"], name="mine")
    (tmp_path / "m.safetensors").write_bytes(of(task))
    own = ["--model", "m.safetensors", "--task", "my_own_tools:task"]
    assert command_line.run(["predict", "x.npy", *own, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    expected = task.predict_file(task.initial(1), tmp_path / "x.npy")
    assert [(row["row"], row["answer"]) for row in told] == [
        (n, found.answer) for n, found in enumerate(expected, 1)
    ]
    assert command_line.run(["export", *own, "--like", "x.npy", "--out", "m.onnx"]) == 0
    assert (tmp_path / "m.onnx").stat().st_size > 100
    assert command_line.run(["export", *own, "--out", "m.onnx"]) == 2
    assert command_line.run(["predict", "x.npy", "--model", "m.safetensors"]) == 2
    assert "task of somebody's own, mine: give --task" in capsys.readouterr().err


class Masked(nn.Module):
    """Takes words as numbers, and which of them count."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, words, mask):
        return self.head((self.words(words) * mask[..., None]).sum(1))


def test_a_task_that_reads_several_inputs_predicts_and_is_exported(tmp_path):
    def reads(path):
        lines = path.read_text().splitlines()
        words = np.array([[int(word) for word in line.split()] for line in lines])
        return words, (words > 0).astype(np.float32)

    path = tmp_path / "words.txt"
    path.write_text("1 2 0\n3 4 5\n8 0 0\n")
    task = TorchTask(Masked, reads=reads, name="masked")
    weights = task.initial(1)
    found = task.predict_file(weights, path)
    model = task.model(weights)
    words, mask = map(torch.as_tensor, reads(path))
    with torch.no_grad():
        expected = model(words, mask).softmax(1)
    assert [answer.answer for answer in found] == [str(n) for n in expected.argmax(1).tolist()]
    exported = export_task(task, of(task), "onnx", lambda: reads(path))
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    assert names == ["input0", "input1"]
    (outputs,) = session.run(None, dict(zip(names, reads(path), strict=True)))
    with torch.no_grad():
        np.testing.assert_allclose(outputs, model(words, mask).numpy(), atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map["input"]
    assert about == "input0: int64 [batch, 3]; input1: float32 [batch, 3]"


def test_one_output_of_binary_cross_entropy_is_a_class(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[2.0], [-3.0]], np.float32))
    task = TorchTask(
        lambda: nn.Linear(1, 1), loss=nn.BCEWithLogitsLoss(), classes=["no", "yes"], name="b"
    )
    weights = {"weight": np.ones((1, 1), np.float32), "bias": np.zeros(1, np.float32)}
    found = task.predict_file(weights, tmp_path / "x.npy")
    assert [answer.answer for answer in found] == ["yes", "no"]
    assert found[0].probability == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_a_reader_that_fails_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine_fails.py").write_text(
        TASK.replace('name="mine"', 'name="mine", reads=lambda path: path.missing'),
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    import mine_fails

    model = tmp_path / "m.safetensors"
    model.write_bytes(of(mine_fails.task))
    words = ["predict", "x.csv", "--task", "mine_fails:task", "--model", str(model)]
    assert command_line.run(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "mine cannot read or answer x.csv: AttributeError:" in said
