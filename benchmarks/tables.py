"""What a benchmark gives: a table of our figures beside a peer's, and how far apart they may be.

Both figures of a row come from the same run on the same machine: their ratio is what counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` is ours over the peer's; `met` is None where there is no goal."""

    what: str
    ours: str
    peer: str = ""
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


@dataclass
class Table:
    """A part of benchmarks/RESULTS.md. `peer` heads the column of the other figure.

    `notes` are paragraphs of Markdown below it: how it was measured, why a goal is missed.
    `data` is what the figures were worked out of, as JSON.
    """

    title: str
    command: str
    peer: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)

    def markdown(self) -> str:
        lines = [
            f"## {self.title}",
            "",
            f"`{self.command}`",
            "",
            f"| | ours | {self.peer} | ratio | goal | |",
            "|---|---:|---:|---:|---:|---|",
        ]
        for row in self.rows:
            ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
            met = {None: "", True: "met", False: "missed"}[row.met]
            lines.append(f"| {row.what} | {row.ours} | {row.peer} | {ratio} | {row.goal} | {met} |")
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


def command(doc: str | None, measure: Callable[[bool, Path], Table]) -> None:
    """What each benchmark does as a program: measure as the command line says, print the table."""
    parser = argparse.ArgumentParser(description=str(doc).splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all of it, not the short form")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where MNIST lies")
    arguments = parser.parse_args()
    print(measure(arguments.full, arguments.data_dir).markdown())
