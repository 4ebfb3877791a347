"""Draws the figures of a run, as PNG bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from client_sdk.results import figures
from serverless_fl.domain.metrics import is_rate
from serverless_fl.wire.text import clean

if TYPE_CHECKING:  # `compare` draws without PyTorch, which these import
    from matplotlib.figure import Figure

    from client_sdk.results.comparison import Run
    from client_sdk.results.version_figures import VersionFigures
    from client_sdk.simulation.outcome import Row
    from client_sdk.task.evaluation import Classes

NUMBERED_CLASSES = 20  # with more classes, cells and bars have no numbers
DRAWN_METRICS = 4  # of a task with more metrics, the first ones are drawn
DRAWN_CLASSES = 40  # of more classes, the worst ones are drawn


def rounds(rows: list[Row], versions: list[VersionFigures], title: str) -> bytes:
    """Each metric by round: on the test set, and on the clients' held-out data."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    names = figures.names_of(rows)[:DRAWN_METRICS]
    figure = make_figure(max(4.5 * len(names), 6), 4)
    figure.suptitle(clean(title))
    numbers = [row.round for row in rows]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        points = [row.metrics.get(name, math.nan) for row in rows]
        colour = "tab:red" if name == "loss" else "tab:blue"
        axes.plot(numbers, points, "o-", color=colour, label="test set")
        _federated(axes, versions, name, "clients' held-out data")
        local = [
            (row.round, row.federated[f"{name}_after"])
            for row in rows
            if f"{name}_after" in row.federated
        ]
        if local and name != "loss":
            label = "... after local training"
            axes.plot(*zip(*local, strict=True), ".--", color="tab:orange", label=label)
        shown = clean(name)
        last = figures.number(name, points[-1])
        axes.set(xlabel="round", ylabel=shown, title=f"{shown.capitalize()}: {last}")
        if is_rate(name):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return _png(figure)


def _federated(axes: Any, versions: list[VersionFigures], metric: str, label: str) -> None:
    points = [
        (v.version, v.federated.metrics[metric])
        for v in versions
        if v.version and v.federated and metric in v.federated.metrics
    ]
    if points:
        axes.plot(*zip(*points, strict=True), "s:", markersize=4, color="tab:purple", label=label)


def comparison(runs: Sequence[Run], metric: str) -> bytes:
    """One curve a run: a metric of the test set by round, and by seconds since the run began."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = make_figure(11, 4.5)
    by_round, by_time = figure.subplots(1, 2, sharey=True)
    for run in runs:
        points = run.curve(metric)
        if not points:
            continue
        numbers, seconds, values = zip(*points, strict=True)
        by_round.plot(numbers, values, "o-", markersize=4, label=clean(run.title))
        by_time.plot(seconds, values, "o-", markersize=4)
    by_round.set(xlabel="round", ylabel=f"{clean(metric)} on the test set")
    by_time.set(xlabel="seconds of rounds")
    by_round.xaxis.set_major_locator(MaxNLocator(integer=True))
    if is_rate(metric):
        by_round.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (by_round, by_time):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return _png(figure)


def evaluation(classes: Classes, title: str) -> bytes:
    """The confusion matrix, each row as shares of its class, and the accuracy of each class.

    Of more than DRAWN_CLASSES classes it shows those with the lowest accuracy.
    """
    shares = [0.0 if share is None else share for share in classes.by_class]
    shown = sorted(
        sorted((t for t, of in enumerate(classes.examples) if of), key=lambda t: shares[t])[
            :DRAWN_CLASSES
        ]
    )
    size = 3.6 + 0.3 * len(shown)
    figure = make_figure(2 * size - 1, size)
    of = "" if len(shown) == len(classes.names) else f"; {len(shown)} of {len(classes.names)} shown"
    figure.suptitle(f"{clean(title)}: {classes.accuracy:.2%} of {sum(classes.examples)} right{of}")
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    _matrix(left, classes, shown)
    _bars(right, classes, shown, shares)
    return _png(figure)


def _matrix(axes: Any, classes: Classes, shown: list[int]) -> None:
    counts = np.asarray(classes.confusion)[np.ix_(shown, shown)]
    share = counts / np.asarray(classes.examples)[shown][:, None]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [short(classes.names[t]) for t in shown]
    long = max(map(len, names)) > 2
    axes.set_xticks(range(len(shown)), names, rotation=90 if long else 0)
    axes.set_yticks(range(len(shown)), names)
    axes.set(xlabel="answer", ylabel="true class", title="Confusion")
    if len(shown) > NUMBERED_CLASSES:
        return
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[row, column] > 0.55 else "black"
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)


def _bars(axes: Any, classes: Classes, shown: list[int], shares: list[float]) -> None:
    from matplotlib.ticker import PercentFormatter

    places = range(len(shown))
    colours = ["tab:red" if t == classes.worst else "tab:blue" for t in shown]
    bars = axes.barh(places, [shares[t] for t in shown], color=colours)
    axes.set_yticks(places, [short(classes.names[t]) for t in shown])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.18), title="Accuracy by class (the lowest in red)")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    if len(shown) <= NUMBERED_CLASSES:
        axes.bar_label(bars, [f"{shares[t]:.1%}" for t in shown], padding=3, fontsize=8)


def short(name: str) -> str:
    name = clean(name)
    return name if len(name) <= 14 else f"{name[:13]}…"


def make_figure(width: float, height: float) -> Figure:
    # The import takes half a second, which a participant need not wait for.
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["text.parse_math"] = False  # a class may be called "$", or "$x_1"
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    return file.getvalue()
