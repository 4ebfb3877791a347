"""Shows a split: how many examples of each class each client has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from client_sdk.data.splits.drawing import Drawn
from client_sdk.results.console import plain_text
from serverless_fl.domain.records import client_id

SHOWN_CLASSES = 12  # of the table; of more classes it shows how many a client has, and the largest
SHOWN_CLIENTS = 60


@dataclass(frozen=True)
class Shares:
    """Examples of each class that each client has, int64 [clients, classes].

    Examples without classes are all of one class, "examples".
    """

    clients: tuple[str, ...]
    classes: tuple[str, ...]
    counts: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Examples of each client, [clients]."""
        return np.asarray(self.counts.sum(1))


def shares_of(drawn: Drawn, labels: np.ndarray | None, classes: Sequence[str]) -> Shares:
    """Count what was drawn; `labels` [N] are places in `classes`, if these have names."""
    names = drawn.names or tuple(map(client_id, range(len(drawn.parts))))
    if labels is None:
        counts = [[len(part)] for part in drawn.parts]
        return Shares(names, ("examples",), np.array(counts, np.int64))
    count = int(labels.max(initial=0)) + 1
    named = tuple(classes) or tuple(map(str, range(count)))
    rows = [np.bincount(labels[part], minlength=len(named)) for part in drawn.parts]
    return Shares(names, named, np.array(rows, np.int64))


def table(shares: Shares) -> Table:
    """A line a client; the last line has the sums."""
    found = Table()
    found.add_column("client", no_wrap=True)
    found.add_column("examples", justify="right")
    has_few = 1 < len(shares.classes) <= SHOWN_CLASSES
    names = shares.classes if has_few else ("classes", "largest class")
    for name in names if len(shares.classes) > 1 else ():
        found.add_column(plain_text(name[:14]), justify="right")
    for name, row in list(zip(shares.clients, shares.counts, strict=True))[:SHOWN_CLIENTS]:
        found.add_row(plain_text(name), str(row.sum()), *_cells(shares, row, has_few))
    if len(shares.clients) > SHOWN_CLIENTS:
        found.add_row(f"... {len(shares.clients) - SHOWN_CLIENTS} more", "")
    total = shares.counts.sum(0)
    found.add_section()
    found.add_row("all", str(total.sum()), *_cells(shares, total, has_few))
    return found


def summary(shares: Shares) -> str:
    """The sizes, and how unlike the clients' classes are, in a sentence."""
    sizes = np.sort(shares.sizes)
    text = (
        f"{len(sizes)} clients have {sizes[0]} to {sizes[-1]} examples, in the middle "
        f"{int(np.median(sizes))}"
    )
    if len(shares.classes) == 1:
        return f"{text}."
    return (
        f"{text}; a client's classes differ from those of all data by {_distance(shares):.0%} on "
        "average (0%: the same shares, 100%: no class in common)."
    )


def as_json(shares: Shares) -> dict[str, Any]:
    """The counts, for programs."""
    return {
        "clients": list(shares.clients),
        "classes": list(shares.classes),
        "counts": shares.counts.tolist(),
        "examples": shares.sizes.tolist(),
        "distance": None if len(shares.classes) == 1 else _distance(shares),
    }


def _distance(shares: Shares) -> float:
    """The mean total variation distance of the clients' shares of classes from those of all."""
    whole = shares.counts.sum(0) / shares.counts.sum()
    own = shares.counts / shares.sizes[:, None]
    return float(np.abs(own - whole).sum(1).mean() / 2)


def _cells(shares: Shares, row: np.ndarray, has_few: bool) -> list[Any]:
    if len(shares.classes) == 1:
        return []
    if has_few:
        return [str(count) if count else "." for count in row]
    largest = int(row.argmax())
    share = row[largest] / row.sum()
    return [str((row > 0).sum()), plain_text(f"{shares.classes[largest][:20]} {share:.0%}")]
