"""Reads a party's own file or folder as the experiment's initial model describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from client_sdk.errors import DataError
from client_sdk.task.model_file import TABLE, Description, read_metadata
from client_sdk.task.own_data.picture_site import PictureSite
from client_sdk.task.own_data.site import Site
from client_sdk.task.own_data.table_site import TableSite
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.task.pictures import PictureTask


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a party gives: its file or folder, and how to read it."""

    path: Path
    label: str | None = None
    map_classes: bool = False
    kernel: str = "auto"


def _tables(source: Source, initial: bytes, federated: bool) -> Site:
    task = TableTask.read(initial)
    return TableSite(
        source.path, task, source.label, federated=federated, map_classes=source.map_classes
    )


def _pictures(source: Source, initial: bytes, federated: bool) -> Site:
    if source.label is not None:
        raise DataError("The experiment learns from pictures: their folders are the labels.")
    about = Description.read(initial, "The experiment's model")
    return PictureSite(
        source.path, PictureTask(about, source.kernel), map_classes=source.map_classes
    )


# The key of a model's metadata that says what it learns from, and its reader.
SITES: Mapping[str, Callable[[Source, bytes, bool], Site]] = {
    TABLE: _tables,
    "mean": _pictures,
}


def read_site(source: Source, initial: bytes, *, federated: bool) -> Site:
    """The party's data. `initial` is the experiment's initial model. Raises DataError."""
    metadata = read_metadata(initial)
    for key, read in SITES.items():
        if key in metadata:
            return read(source, initial, federated)
    raise DataError(
        "The experiment's model does not say what its data look like, so this command cannot read "
        "yours for it."
    )
