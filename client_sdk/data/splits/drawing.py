"""Draws a split and checks what it gives, whatever gave it: a split by name, or a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client_sdk.data.splits import SPLITS
from client_sdk.data.splits.split import Examples, Split
from client_sdk.errors import DataError
from serverless_fl.alternatives import chosen
from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import InvalidConfig

Law = Split | str | Mapping[str, Any] | Callable[[Examples, int, int], Sequence[Sequence[int]]]
"""A split, its name, its name and settings, or a function as `Split.draw`."""


@dataclass(frozen=True)
class Drawn:
    """Which examples each client has, ascending places. Clients without any are left out.

    `numbers` are the clients' places among all that were drawn, `names` the names of their sites,
    where they have names.
    """

    parts: tuple[np.ndarray, ...]
    numbers: tuple[int, ...]
    names: tuple[str, ...] = ()
    note: str = ""


def split_of(law: Law) -> Split | None:
    """The split of a name, or of a name and settings; None for a function. Raises DataError."""
    if isinstance(law, Split):
        return law
    if not isinstance(law, str | Mapping):
        return None
    try:
        return chosen(Choice.of(law), SPLITS, "split")
    except InvalidConfig as error:
        raise DataError(error.message) from error


def described(split: Split) -> str:
    """A split and its settings in words: `dirichlet-classes, alpha 0.1`."""
    settings = split.model_dump(exclude={"name"})
    return ", ".join([split.name, *(f"{k.replace('_', ' ')} {v}" for k, v in settings.items())])


def draw(law: Law, examples: Examples, clients: int, seed: int) -> Drawn:
    """Draw the examples of each client; a function of the arguments. Raises DataError.

    Nothing is drawn again for a client without examples: that would change the law. Such a client
    does not take part, and the note counts them.
    """
    if clients < 1:
        raise DataError(f"There is at least one client, not {clients}.")
    split = split_of(law)
    given: Sequence[Any]
    if split is not None:
        given = split.draw(examples, clients, seed)
    else:
        assert callable(law)  # noqa: S101
        given = law(examples, clients, seed)
    parts = [np.sort(np.asarray(places, np.int64)) for places in given]
    _check(parts, examples.count, clients)
    numbers = tuple(n for n, places in enumerate(parts) if len(places))
    if not numbers:
        raise DataError("The split gives no client any example.")
    notes = []
    if empty := clients - len(numbers):
        notes.append(
            f"{empty} of {clients} clients have no examples in this split and do not take part."
        )
    if unused := examples.count - sum(map(len, parts)):
        notes.append(f"{unused} of {examples.count} examples are no client's.")
    names = split.names(examples) if split is not None else ()
    named = tuple(names[n] for n in numbers) if names else ()
    return Drawn(tuple(parts[n] for n in numbers), numbers, named, " ".join(notes))


def _check(parts: Sequence[np.ndarray], count: int, clients: int) -> None:
    if len(parts) != clients or any(places.ndim != 1 for places in parts):
        raise DataError(f"A split gives a list of places for each of {clients} clients.")
    everything = np.concatenate(parts)
    if len(everything) and (everything.min() < 0 or everything.max() >= count):
        raise DataError(f"A split gives places from 0 to {count - 1}.")
    times = np.bincount(everything, minlength=count)
    if times.max(initial=0) > 1:
        raise DataError(f"A split gives the example {int(times.argmax())} to more than one client.")
