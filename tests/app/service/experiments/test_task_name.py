"""The coordinator keeps the task's name and fingerprint as words, and shows them."""

import numpy as np
import pytest
import safetensors.numpy

from app.service.records import mapping
from app.store.port import Document
from client_sdk.simulation.simulate import initial_model
from client_sdk.task.task import fingerprint
from serverless_fl.domain.task_name import TaskName, task_named
from tests.support import toy


def file_with(**metadata):
    return safetensors.numpy.save({"w": np.zeros(2, np.float32)}, metadata)


async def shown(federation, initial):
    experiment_id, _ = await federation.create(initial)
    return (await federation.admin.experiment(experiment_id)).task


async def test_an_experiment_shows_the_task_of_its_initial_model(federation):
    task = await shown(federation, initial_model(toy.Line(), 0))
    assert task.model_dump() == {"name": "line", "fingerprint": fingerprint(toy.Line())}


@pytest.mark.parametrize(
    ("metadata", "task"),
    [
        ({}, None),
        ({"task": "a table"}, {"name": "a table", "fingerprint": ""}),
        ({"task": "a\x1b[2Jb", "fingerprint": "\x07"}, {"name": "a[2Jb", "fingerprint": ""}),
    ],
)
async def test_other_files_are_taken_and_their_words_are_clean(federation, metadata, task):
    found = await shown(federation, file_with(**metadata))
    assert (found and found.model_dump()) == task


def test_long_words_are_cut():
    found = task_named({"task": "t" * 10**6, "fingerprint": "f" * 10**6})
    assert found == TaskName(name="t" * 200, fingerprint="f" * 64)


async def test_an_experiment_of_an_earlier_version_is_read(federation):
    experiment_id, _ = await federation.create(initial_model(toy.Line(), 0))
    repo = federation.coordinator().context.repo
    stored = await repo.documents.get("experiments", experiment_id)
    body = {name: value for name, value in stored.body.items() if name != "task"}
    read = mapping.experiment(Document(experiment_id, 1, body))
    assert read.task is None
    assert (await repo.experiment(experiment_id)).task.name == "line"
