"""What a run's figures warn of: a training that diverged, or that learns its examples by heart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from client_sdk.simulation.simulate import Row, best_of
from client_sdk.task.evaluation import Classes

_SIGMAS = 3.0  # of the test set's own sampling error, beyond which accuracy is more than chance
_FALLEN = 0.1  # of accuracy that a last model may lack against the best one before it is told
_EXPLODED = 2.0  # times the loss of a model that knows nothing
_BY_HEART = 0.1  # a mean loss on the examples that were trained on, below which nothing is left
_RISE = 0.1  # of a held-out loss, absolute and as a share, that is more than noise


def warnings_of(rows: Sequence[Row], classes: Classes | None) -> list[str]:
    """Sentences about a run that ended well only in form; none where nothing is wrong.

    `classes` are the last model's answers on the test set.
    """
    if not rows or classes is None or not sum(classes.examples):
        return []
    found = [_diverged(rows, classes), _memorised(rows)]
    return [sentence for sentence in found if sentence]


def chance(classes: Classes) -> float:
    """The most that a model which knows nothing of the images is likely to get right.

    That is the share of the largest class, and three standard errors of it.
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
    said = f"{what}: after round {last.round} {' and '.join(faults)}"
    if best is not last and learnt:
        said += f"; the best model, of round {best.round}, reaches {best.accuracy:.2%}"
    return f"{said}. A lower learning rate or fewer local epochs may help."


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
