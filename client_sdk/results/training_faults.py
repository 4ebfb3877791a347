"""Faults of a training that its figures show: it diverged, or it learnt its examples by heart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from client_sdk.simulation.outcome import Row, best_of
from client_sdk.task.evaluation import Classes

_SIGMAS = 3.0  # standard errors of the test set; an accuracy beyond them is more than chance
_FALLEN = 0.1  # a last model whose accuracy is so much below the best one's has diverged
_EXPLODED = 2.0  # times the loss of equal odds for every class
_BY_HEART = 0.1  # a mean loss on the training examples below this leaves nothing to learn
_RISE = 0.1  # of the test loss, absolute and as a share; a smaller rise is noise


def warnings_of(rows: Sequence[Row], classes: Classes | None) -> list[str]:
    """Warnings about a run that completed and still went wrong; none where nothing is wrong.

    `classes` counts the last model's answers on the test set.
    """
    if not rows or classes is None or not sum(classes.examples):
        return []
    found = [_diverged(rows, classes), _memorised(rows)]
    return [sentence for sentence in found if sentence]


def chance(classes: Classes) -> float:
    """The largest share that a model which ignores the images is likely to get right.

    It is the share of the largest class, and three standard errors of that share.
    """
    count = sum(classes.examples)
    share = max(classes.examples) / count
    return share + _SIGMAS * math.sqrt(share * (1 - share) / count)


def _diverged(rows: Sequence[Row], classes: Classes) -> str:
    last, best = rows[-1], best_of(rows)
    guessing = math.log(max(len(classes.names), 2))  # the loss of equal odds for every class
    faults = []
    if last.accuracy <= chance(classes):
        faults.append(f"its accuracy of {last.accuracy:.2%} is no better than guessing")
    elif last.accuracy < best.accuracy - _FALLEN:
        faults.append(f"its accuracy fell to {last.accuracy:.2%}")
    if last.loss > _EXPLODED * guessing and (faults or last.loss > _EXPLODED * best.loss):
        faults.append(f"its loss is {last.loss:.3g}")
    if not faults:
        return ""
    learnt = best.accuracy > chance(classes)
    what = "The training diverged" if learnt else "The training diverged, or never began to learn"
    warning = f"{what}: after round {last.round} {' and '.join(faults)}"
    if best is not last and learnt:
        warning += f"; the best model, of round {best.round}, reaches {best.accuracy:.2%}"
    return f"{warning}. A lower learning rate or fewer local epochs may help."


def _memorised(rows: Sequence[Row]) -> str:
    """Train loss that vanishes while the loss on other examples rises."""
    last = rows[-1]
    trained = last.federated.get("train_loss")
    least = min(rows, key=lambda row: row.loss)
    if trained is None or trained > _BY_HEART:
        return ""
    if last.loss - least.loss < max(_RISE, _RISE * least.loss):
        return ""
    return (
        f"The clients learn their own examples by heart: their mean loss while training is "
        f"{trained:.3g}, but on the test set the loss rose from {least.loss:.3g} (round "
        f"{least.round}) to {last.loss:.3g}. Fewer local epochs, a weight decay or a learning "
        "rate that falls from round to round may help."
    )
