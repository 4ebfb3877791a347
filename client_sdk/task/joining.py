"""Makes a party's data agree with the model of the experiment that it joins.

The model's file says which classes its outputs stand for and how pixels were scaled. A party whose
labels mean something else, or whose pixels are scaled otherwise, would train against the others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import torch

from client_sdk.data.dataset import Dataset
from client_sdk.data.tables.words import folded, listed
from client_sdk.errors import DataError
from client_sdk.task.model_file import Description, read_metadata
from serverless_fl.wire.text import clean

UNDESCRIBED = (
    "The experiment's model does not say its classes, or how its pixels were scaled: make sure "
    "that your labels mean what the other parties' do. Pixels are scaled by your own mean and "
    "deviation."
)
_REQUIRED = ("classes", "mean", "std")
_SHOWN = 30  # class names in a message


def description_of(model: bytes) -> Description | None:
    """What the experiment's model says of itself; None where an early version wrote the file.

    Raises DataError where the description contradicts itself.
    """
    if not all(name in read_metadata(model) for name in _REQUIRED):
        return None
    return Description.read(model, "The experiment's model")


def scaled_like(dataset: Dataset, about: Description) -> Dataset:
    """The data set with a model's scale of pixels, and its way to prepare other pictures."""
    return replace(dataset, mean=about.mean, std=about.std, preparation=about.preparation)


def adapt(dataset: Dataset, about: Description, *, map_classes: bool) -> Dataset:
    """Give a party's data set the experiment's labels and its scale of pixels.

    Both must have the same classes in the same order. With `map_classes` they are matched by name
    instead: in any order, without some of the experiment's classes, and without regard to capitals
    where that is unambiguous. Raises DataError, with both lists.
    """
    dataset = scaled_like(dataset, about)
    places = places_of(dataset.name, dataset.classes, about.classes, map_classes=map_classes)
    if places == list(range(len(about.classes))):
        return replace(dataset, classes=about.classes)
    table = torch.tensor(places)
    return replace(
        dataset,
        classes=about.classes,
        train_y=table[dataset.train_y],
        test_y=table[dataset.test_y],
    )


def places_of(
    whose: str,
    own: Sequence[str],
    theirs: Sequence[str],
    *,
    map_classes: bool,
    may_lack: bool = False,
) -> list[int]:
    """Give the experiment's label of each own class.

    `may_lack`: a party may lack some of the experiment's classes, if the others are in its order.
    Raises DataError, with both lists.
    """
    own, theirs = ([_composed(name) for name in names] for names in (own, theirs))
    if own == theirs or (may_lack and own == [name for name in theirs if name in own]):
        return [theirs.index(name) for name in own]
    if map_classes:
        return _matched(own, theirs)
    order = ", but in another order" if sorted(own) == sorted(theirs) else ""
    raise DataError(
        f"The classes of {whose} are {'the' if order else 'not the'} experiment's{order}, so its "
        f"labels would mean something else: {_listed(theirs)} there, {_listed(own)} here. Give "
        "--map-classes to match them by name, or rename them."
    )


def _matched(own: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """The experiment's label of each own class. Raises DataError."""
    found: list[int] = []
    for name in own:
        same = [n for n, other in enumerate(theirs) if other == name] or [
            n for n, other in enumerate(theirs) if folded(other) == folded(name)
        ]
        if len(same) != 1:
            raise DataError(
                f"--map-classes finds {'no class' if not same else 'more than one class'} of the "
                f"experiment for {clean(name, 60)!r}: {_listed(theirs)} there, {_listed(own)} here."
            )
        found += same
    if twice := [name for n, name in enumerate(own) if found.count(found[n]) > 1]:
        raise DataError(
            f"--map-classes would make one class of {_listed(twice)}: {_listed(theirs)} there."
        )
    return found


def _composed(name: str) -> str:
    """The name as NFC: some file systems decompose accents."""
    return unicodedata.normalize("NFC", name)


def _listed(names: Sequence[str]) -> str:
    return listed(names, most=_SHOWN, longest=60)
