"""A given model begins an experiment only if it is one of the task; the words are both sides'."""

from __future__ import annotations

import numpy as np
import pytest

from client_sdk.data.preparation import Preparation
from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import describe
from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.function_task import FunctionTask
from client_sdk.task.initial import described_pictures, described_table, initial_file
from client_sdk.task.model_file import Description
from client_sdk.task.models import spec_for
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.task.pictures import PictureTask


def pictures(classes=("a", "b"), mean=0.5):
    spec = spec_for("digits-cnn", (1, 8, 8), len(classes))
    about = Description(spec, "mine", classes, (mean,), (0.25,), Preparation(1, 8, 8))
    return PictureTask(about)


def table(tmp_path, text="age,sick\n1,no\n2,yes\n", network="linear"):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return TableTask(describe(read_table(tmp_path / "t.csv", "sick")), network)


def of(task, seed=1):
    return weights_file.write(task.initial(seed), task.metadata())


def test_a_described_file_stays_byte_for_byte(tmp_path):
    for task in (pictures(), table(tmp_path)):
        assert initial_file(task, of(task)) == of(task)
        path = tmp_path / "m.safetensors"
        path.write_bytes(of(task))
        assert initial_file(task, path) == initial_file(task, str(path)) == of(task)


def test_tensors_get_the_description_of_the_task(tmp_path):
    for task in (pictures(), table(tmp_path)):
        weights = task.initial(3)
        assert initial_file(task, weights) == of(task, 3)
        assert initial_file(task, weights_file.write(weights)) == of(task, 3)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (lambda p: of(pictures(("b", "a"))), "are b, a, those of the data are a, b"),
        (lambda p: of(pictures(("a", "b", "c"))), "tensor .* there and .* here"),
        (lambda p: of(table(p)), "task is table-linear there"),
        (lambda p: {"w": np.zeros(2, np.float32)}, "tensor w is F32 .2. there and nothing here"),
        (lambda p: b"nonsense", "is no file of weights"),
        (lambda p: p / "nowhere", "cannot be read"),
    ],
)
def test_a_model_of_another_task_is_refused(tmp_path, theirs, message):
    with pytest.raises(DataError, match=message):
        initial_file(pictures(), theirs(tmp_path))


def test_a_table_with_other_columns_or_another_network_is_refused(tmp_path):
    ours = table(tmp_path)
    for other in (
        table(tmp_path, "size,sick\n1,no\n2,yes\n"),
        table(tmp_path, "age,sick\n1,well\n2,ill\n"),
        table(tmp_path, network="mlp"),
    ):
        with pytest.raises(DataError, match="of other columns or classes"):
            initial_file(ours, of(other))


def test_other_scales_are_no_fault(tmp_path):
    """The run takes those of the file."""
    other = of(pictures(mean=0.1))
    assert initial_file(pictures(), other) == other
    found = described_pictures(other)
    assert found is not None
    assert found.mean == (0.1,)
    wide = of(table(tmp_path, "age,sick\n1,no\n200,yes\n"))
    assert initial_file(table(tmp_path), wide) == wide
    assert described_table(wide).schema.columns[0].scale.mean == 100.5
    assert described_pictures(weights_file.write(pictures().initial(1))) is None
    assert described_table(other) is described_pictures(wide) is described_table(None) is None


def test_a_task_of_ones_own_is_compared_by_its_fingerprint():
    def task(name, size):
        return FunctionTask(
            lambda seed: {"w": np.zeros(size, np.float32)},
            lambda weights, data, training, seed: None,
            lambda weights, data: {},
            name=name,
        )

    assert initial_file(task("mine", 2), of(task("mine", 2)))
    with pytest.raises(DataError, match="task is yours there and mine here"):
        initial_file(task("mine", 2), of(task("yours", 2)))
    with pytest.raises(DataError, match=r"there and F32 .2. here"):
        initial_file(task("mine", 2), of(task("mine", 3)))
