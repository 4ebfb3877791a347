"""Selections: which clients a cohort takes. One a file.

`selection` has the contract, `SELECTIONS` all selections: a new one is a file here and a line
there.
"""

from __future__ import annotations

from serverless_fl.alternatives import stored
from serverless_fl.domain.experiment import Config
from serverless_fl.schedule.selection.by_loss import ByLoss
from serverless_fl.schedule.selection.by_size import BySize
from serverless_fl.schedule.selection.least_recent import LeastRecent
from serverless_fl.schedule.selection.responsive import Responsive
from serverless_fl.schedule.selection.selection import UNKNOWN, Draw, Known, Reads, Selection, Turn
from serverless_fl.schedule.selection.uniform import Uniform

__all__ = ["SELECTIONS", "UNKNOWN", "Draw", "Known", "Reads", "Selection", "Turn", "selection_of"]

SELECTIONS: tuple[type[Selection], ...] = (Uniform, BySize, LeastRecent, ByLoss, Responsive)


def selection_of(config: Config) -> Selection:
    """Give the selection of an experiment, with its settings. Raises InvalidConfig.

    Another release may have stored a selection that this one does not know.
    """
    return stored(config.selection, SELECTIONS, "selection")
