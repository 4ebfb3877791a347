"""Draws a split: a bar for each client, cut into its classes."""

from __future__ import annotations

import io

import numpy as np

from client_sdk.results.plots import make_figure, short
from client_sdk.results.split_table import Shares
from serverless_fl.wire.text import clean

DRAWN_CLASSES = 20  # the largest ones; the others are drawn as one
DRAWN_CLIENTS = 200
_NAMED_CLIENTS = 60


def split(shares: Shares, title: str, kind: str = "png") -> bytes:
    """The figure as PNG or SVG. Of very many clients it draws the first ones."""
    import matplotlib

    names, counts = _drawn_classes(shares)
    counts = counts[:DRAWN_CLIENTS]
    rows = len(counts)
    height = 1.6 + rows * 0.24 if rows <= _NAMED_CLIENTS else 10
    figure = make_figure(9, height)
    axes = figure.subplots()
    colours = matplotlib.colormaps["tab20" if len(names) > 10 else "tab10"]
    places, left = np.arange(rows), np.zeros(rows)
    for n, name in enumerate(names):
        width = 1.0 if rows > _NAMED_CLIENTS else 0.8
        axes.barh(places, counts[:, n], width, left, color=colours(n), label=short(name))
        left += counts[:, n]
    if rows <= _NAMED_CLIENTS:
        axes.set_yticks(places, [short(name) for name in shares.clients[:rows]], fontsize=8)
    else:
        axes.set_ylabel("clients")
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, 1.03 * left.max())
    axes.set_xlabel("training examples")
    more = "" if rows == len(shares.clients) else f" ({rows} of {len(shares.clients)} clients)"
    axes.set_title(clean(title) + more, fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    if len(names) > 1:
        figure.legend(loc="outside right upper", fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=130)
    return file.getvalue()


def _drawn_classes(shares: Shares) -> tuple[list[str], np.ndarray]:
    """Names and counts [clients, classes], of many classes the largest ones and the others."""
    if len(shares.classes) <= DRAWN_CLASSES:
        return list(shares.classes), shares.counts
    order = np.argsort(-shares.counts.sum(0), kind="stable")
    first, others = np.sort(order[: DRAWN_CLASSES - 1]), order[DRAWN_CLASSES - 1 :]
    names = [*(shares.classes[n] for n in first), f"{len(others)} others"]
    rest = shares.counts[:, others].sum(1, keepdims=True)
    return names, np.hstack([shares.counts[:, first], rest])
