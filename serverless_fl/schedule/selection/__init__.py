"""Selections: which clients a cohort takes. One a file.

`selection` has the contract, `SELECTIONS` the modules: a new one is a file here and a line there.
"""

from __future__ import annotations

from serverless_fl.alternatives import stored
from serverless_fl.domain.experiment import Config
from serverless_fl.registry import registered
from serverless_fl.schedule.selection.selection import UNKNOWN, Draw, Known, Reads, Selection, Turn

__all__ = ["SELECTIONS", "UNKNOWN", "Draw", "Known", "Reads", "Selection", "Turn", "selection_of"]

SELECTIONS = registered(
    Selection,
    __name__,
    "uniform",
    "by_size",
    "least_recent",
    "by_loss",
    "responsive",
    "secret",
)


def selection_of(config: Config) -> Selection:
    """Give the selection of an experiment, with its settings. Raises InvalidConfig.

    Another release may have stored a selection that this one does not know.
    """
    return stored(config.selection, SELECTIONS, "selection")
