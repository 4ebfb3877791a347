"""What every engine promises."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from client_sdk.data.data import Items
from client_sdk.data.holdout import hold_out
from client_sdk.data.seeds import derive_seed
from client_sdk.engines.batched import Batched
from client_sdk.engines.in_line import InLine
from client_sdk.engines.on_ray import Ray
from client_sdk.engines.processes import Processes
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import DataError, TrainingFailed
from client_sdk.task import weights_file
from client_sdk.task.settings import TrainSettings
from serverless_fl.wire.turns import Train, Training
from tests.support import toy

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"


def of_the_page():
    """The engine that docs/extending.md adds."""
    text = PAGE.read_text(encoding="utf-8").split("\n## Add an engine\n")[1]
    found = {}
    exec(text.split("```python\n")[1].split("```")[0], found)
    return found["Threads"]()


ENGINES = {
    "in line": InLine,
    "processes": lambda: Processes(1),
    "of the page": of_the_page,
    "batched": lambda: Batched(8),
    "ray": Ray,  # `make ray-test`
}
BASE = weights_file.write({"line": np.array([1.0, 2.0])})


def order(epochs=2):
    training = Training(local_epochs=epochs, batch_size=10, learning_rate=0.1, momentum=0, seed=11)
    return Train.model_construct(round=3, training=training)


@pytest.fixture(scope="module")
def ray_cluster():
    """A cluster that the engine finds connected: to start one takes seconds."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(
    params=[
        pytest.param(made, id=name, marks=[pytest.mark.ray] if made is Ray else [])
        for name, made in ENGINES.items()
    ]
)
def engine(request):
    if request.param is Ray:
        request.getfixturevalue("ray_cluster")
    made = request.param()
    yield made
    made.close()
    made.close()  # a second time changes nothing


def one_update(task, engine, data=toy.POINTS, indices=range(20)):
    with LocalTrainer(task, data, engine) as trainer:
        return asyncio.run(trainer.train("c-1", indices, BASE, order()))


def test_a_client_trains_on_what_it_does_not_hold_out(engine):
    update = one_update(toy.Line(), engine)
    mine, held_out = hold_out(range(20), derive_seed(11, "holdout", "c-1"))
    task, base = toy.Line(), weights_file.read(BASE)
    expected = task.train(base, toy.POINTS.subset(mine), TrainSettings(2, 10, 0.1), 0)
    assert update.weights == weights_file.write(expected.weights)
    assert update.num_examples == len(mine) == 18
    before = task.evaluate(base, toy.POINTS.subset(held_out))
    assert {n: update.metrics[f"{n}_before"] for n in before} == before
    assert update.metrics["loss_after"] < before["loss"]


def test_a_model_is_measured_on_the_held_out_examples(engine):
    with LocalTrainer(toy.Line(), toy.POINTS, engine) as trainer:
        found = asyncio.run(trainer.evaluate("c-1", range(20), BASE, 11))
        nothing = asyncio.run(trainer.evaluate("c-1", range(1), BASE, 11))
    assert found.examples == 2
    assert found.metrics["bias"] == 2.0
    assert (nothing.examples, nothing.metrics) == (0, {})


def test_many_clients_train_at_once_and_each_gets_its_own(engine):
    async def all_of_them(trainer):
        parts = [range(n, n + 10) for n in range(8)]
        jobs = [trainer.train(f"c-{n}", part, BASE, order()) for n, part in enumerate(parts)]
        return await asyncio.gather(*jobs)

    with LocalTrainer(toy.Line(), toy.POINTS, engine) as trainer:
        first, again = (asyncio.run(all_of_them(trainer)) for _ in range(2))
    assert [u.weights for u in first] == [u.weights for u in again]
    assert len({u.weights for u in first}) == 8


def test_a_list_of_examples_will_do(engine):
    class_of_items = Items([(1.0, 4.0), (2.0, 7.0)])
    with LocalTrainer(toy.Line(), class_of_items, engine) as trainer:
        assert asyncio.run(trainer.engine.run(length_of_data)) == 2


def length_of_data(task, data):
    return len(data)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("a shard of nothing"), "train method of line raised ZeroDivisionError"),
        (MemoryError(), "needs more memory than there is"),
        (RuntimeError("can't allocate memory"), "needs more memory than there is"),
        (RuntimeError("sizes differ"), "raised RuntimeError: sizes differ"),
    ],
)
def test_what_a_task_raises_becomes_a_sentence(engine, error, message):
    with pytest.raises(TrainingFailed, match=message):
        one_update(toy.Failing(error), engine)


def test_an_error_in_words_stays_as_it_is(engine):
    with pytest.raises(DataError, match="no column of that name"):
        one_update(toy.Failing(DataError("There is no column of that name.")), engine)


def test_weights_of_another_form_are_refused_before_they_travel(engine):
    with pytest.raises(TrainingFailed, match=r"'line' is F32 \[2\] after .*but F64 \[2\] before"):
        one_update(toy.Reshaping(), engine)
