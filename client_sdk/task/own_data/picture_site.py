"""A party's own pictures, as the experiment's model describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from client_sdk.data.arrays import read_arrays
from client_sdk.data.data import Arrays
from client_sdk.data.dataset import Parts
from client_sdk.data.preparation import Preparation
from client_sdk.errors import DataError
from client_sdk.task.joining import places_of
from client_sdk.task.label_counts import label_counts
from client_sdk.task.own_data.site import Declaration, bounded, facts_of_classes, facts_of_task
from client_sdk.task.pictures import PictureTask
from client_sdk.task.task import Task
from serverless_fl.domain.agreement import Agreement
from serverless_fl.wire.agreement import ScaleView


def agreement_of(task: PictureTask) -> Agreement:
    """The terms for pictures: the classes, the network and its input."""
    about, preparation = task.about, task.about.preparation
    facts = {
        **facts_of_task(task),
        "pictures": f"{preparation.channels} channels, {preparation.width}x{preparation.height}, "
        f"{preparation.fit}",
        **facts_of_classes(about.classes),
    }
    return bounded(Agreement(facts))


class PictureSite:
    """Pictures in class folders or an .npz file, all of which count as examples.

    A party may lack some of the experiment's classes. Raises DataError, with both sides' words.
    """

    def __init__(self, path: Path, task: PictureTask, *, map_classes: bool) -> None:
        about = task.about
        parts = read_pictures(path, like=about.preparation)
        places = places_of(
            path.name, parts.classes, about.classes, map_classes=map_classes, may_lack=True
        )
        images, labels = parts.train
        self._task = task
        self._data = Arrays(torch.from_numpy(images), torch.tensor(places)[labels])
        self.notes: tuple[str, ...] = (parts.note,) if parts.note else ()

    def declaration(self) -> Declaration:
        """The number of pictures, and the facts."""
        return Declaration(len(self._data), agreement_of(self._task).facts)

    def label_counts(self) -> Mapping[str, int]:
        """How many pictures each class has."""
        return label_counts(self._data.y, self._task.about.classes)

    def ready(self, scales: Sequence[ScaleView]) -> tuple[Task, Arrays, Sequence[str]]:
        """The task and the pictures."""
        return self._task, self._data, ()


def read_pictures(
    path: Path,
    size: tuple[int, int] | None = None,
    fit: str | None = None,
    like: Preparation | None = None,
) -> Parts:
    """A folder with CLASS/*.png or train/CLASS/*.png, or an .npz file. Raises DataError.

    A part to test on is left out: the coordinator measures on what clients hold out.
    """
    if path.suffix.lower() == ".npz" and path.is_file():
        return read_arrays(path, size, fit, like)
    if path.is_dir():
        from client_sdk.data.folder import read_folder  # with Pillow and SciPy, which take a while

        return read_folder(path.resolve(), size, fit, like, whole=True)
    raise DataError(
        f"There are no pictures at {str(path)!r}: give a folder with CLASS/*.png, or an .npz file."
    )
