"""The shares of a simulation's clients: equal, by a split, or sites with data of their own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from client_sdk.data.data import Data, as_data
from client_sdk.data.joined import join
from client_sdk.data.seeds import SeededRandom, derive_seed
from client_sdk.data.splits import looking
from client_sdk.data.splits.drawing import Drawn, Law, draw, split_of
from client_sdk.data.splits.equal import Equal
from client_sdk.errors import BadSettings, DataError

CLIENTS = 20  # where nobody says how many
TEST_SHARE = 0.2  # of the data, where no test set is given


@dataclass(frozen=True)
class Shared:
    """The data of all clients in one data set, and the test set.

    `drawn` says which examples each client has; None: the coordinator shares them out equally.
    """

    train: Data
    test: Data
    clients: int
    drawn: Drawn | None
    test_sites: np.ndarray | None = None  # whose each test example is, where sites have names


def share_out(train: Any, test: Any, clients: int | None, split: Law, seed: int) -> Shared:
    """The data as `simulate` takes them. Raises BadSettings, DataError."""
    owners = None
    if is_of_sites(train):
        if clients not in (None, len(train)):
            raise BadSettings(f"{len(train)} sites are {len(train)} clients: leave out {clients=}.")
        if split != "equal":
            raise BadSettings("Sites have their own data: there is nothing to split.")
        return of_sites(train, test, seed)
    if _is_pictures(train):
        examples = looking.of_dataset(train)
        owners = train.test_sites if test is None else None
        train, test = train.train, train.test if test is None else test
        data = as_data(train)
        held_out = _test_set(test)
    else:
        data = as_data(train)
        data, held_out = hold_out_test(data, seed) if test is None else (data, _test_set(test))
        examples = looking.of_data(data)
    law = split_of(split)
    known = law.clients_in(examples) if law is not None else None
    count = clients or known or CLIENTS
    if not 1 <= count <= len(data):
        raise BadSettings(f"{len(data)} examples cannot be shared among {count} clients.")
    if isinstance(law, Equal):
        return Shared(data, held_out, count, None)
    drawn = draw(split, examples, count, seed)
    return Shared(data, held_out, len(drawn.parts), drawn, owners)


def hold_out_test(data: Data, seed: int) -> tuple[Data, Data]:
    """Hold a fifth of the data out, as a function of the seed. Raises DataError."""
    if len(data) < 2:
        raise DataError("There is nothing left to test on: give a test set.")
    order = SeededRandom(derive_seed(seed, "test set")).permutation(len(data)).tolist()
    cut = max(1, round(len(data) * TEST_SHARE))
    return data.subset(sorted(order[cut:])), data.subset(sorted(order[:cut]))


def of_sites(train: Mapping[Any, Any], test: Any, seed: int) -> Shared:
    """One client for each site; without a test set, each site holds a fifth out for it.

    Raises DataError.
    """
    parts = {str(name): as_data(found) for name, found in train.items()}
    if empty := [name for name, data in parts.items() if not len(data)]:
        raise DataError(f"The site {empty[0]} has no examples.")
    if test is None:
        halves = {
            name: hold_out_test(data, derive_seed(seed, "site", name))
            for name, data in parts.items()
        }
        parts = {name: first for name, (first, _) in halves.items()}
        tests = {name: second for name, (_, second) in halves.items()}
    elif is_of_sites(test):
        tests = {str(name): as_data(found) for name, found in test.items()}
    else:
        tests = {"": _test_set(test)}
    held_out = join(list(tests.values()))
    owners = np.repeat(list(tests), [len(found) for found in tests.values()])
    starts = np.cumsum([0, *map(len, parts.values())])
    places = tuple(np.arange(a, b) for a, b in pairwise(starts))
    drawn = Drawn(places, tuple(range(len(parts))), tuple(parts))
    owned = owners if "" not in tests else None
    return Shared(join(list(parts.values())), held_out, len(parts), drawn, owned)


def _is_pictures(train: Any) -> bool:
    """Whether this is what `load` gives. Its module, which imports PyTorch, is loaded then."""
    module = sys.modules.get("client_sdk.data.dataset")
    return module is not None and isinstance(train, module.Dataset)


def _test_set(test: Any) -> Data:
    """A data set, or those of several sites together."""
    if _is_pictures(test):
        return as_data(test.test)
    if is_of_sites(test):
        return join([as_data(found) for found in test.values()])
    return as_data(test)


def is_of_sites(found: Any) -> bool:
    """Whether these are data sets by the names of their sites."""
    return isinstance(found, Mapping) and bool(found) and all(map(_is_data, found.values()))


def _is_data(found: Any) -> bool:
    """Whether this may be a site's data set. {"x": array, "y": array} has no sites."""
    return not hasattr(found, "shape") and not isinstance(found, int | float | str | bytes)
