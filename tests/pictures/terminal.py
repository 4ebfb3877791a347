"""The picture of a run on a terminal, docs/run.svg: `python -m tests.pictures.terminal`.

A real run of the defaults, drawn in its eighth round; where the data must be the digits, say so
with `--dataset digits`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.text import Text

from client_sdk.cli import command_line, run_command
from client_sdk.participant import Event
from client_sdk.results import progress
from tests.pictures.screenshots import DOCS

ROUND = 8
WIDTH = 100


class Still(progress.LiveProgress):
    """What the live picture shows, printed once, at a moment when some have uploaded."""

    taken = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def _on_event(self, event: Event) -> None:
        super()._on_event(event)
        if self.taken or self._round != ROUND or len(self._rows) != ROUND - 1:
            return
        found = (self._clients.get(client) for client in self._cohort)
        kinds = Counter(e.kind for e in found if e is not None and e.round == ROUND)
        if kinds["training"] >= 3 and kinds["uploaded"] >= 3:
            self.taken = True
            self._console.print(self._draw())


def main(arguments: list[str]) -> None:
    view: list[Still] = []
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, force_terminal=True, file=nowhere)
        console.print(Text("$ make run", style="bold green"))

        def choose(_: Console, rounds: int) -> Still:
            view.append(Still(console, rounds))
            return view[0]

        progress.choose = choose
        run_command.print_summary = lambda *_: None  # the picture is of the middle
        assert command_line.run(["run", *arguments]) == 0
        assert view[0].taken, "the moment never came: run it again"
        console.save_svg(str(DOCS / "run.svg"), title="make run")


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(DOCS.parent)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main(sys.argv[1:])
