"""One picture of all ratios that have a goal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.tables import Table


def plot(tables: Mapping[str, Table], path: Path) -> None:
    """Bars of every ratio with a goal, by benchmark; those that miss it stand out."""
    rows = [
        (f"{row.what}", row.ratio, row.met, row.goal)
        for table in tables.values()
        for row in table.rows
        if row.met is not None and row.ratio is not None
    ]
    if not rows:
        return
    figure = Figure(figsize=(9, 0.32 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    colours = ["#2a7f62" if met else "#c0504d" for _, _, met, _ in rows]
    axes.barh(
        [f"{what} ({goal})" for what, _, _, goal in rows], [r[1] for r in rows], color=colours
    )
    axes.set_xscale("log")
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("ours / peer's, with the goal in brackets; green: met")
    axes.tick_params(labelsize=7)
    figure.savefig(path, dpi=110)
