"""What a person sees of a run: a live picture on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from client_sdk.participant import Event
from client_sdk.results import figures
from client_sdk.results.console import human_bytes, plain_text, print_line, printable
from client_sdk.simulation.outcome import Row
from client_sdk.simulation.simulate import Watchers
from serverless_fl.wire.text import clean
from serverless_fl.wire.views import ExperimentView

SHOWN_ROWS = 12  # of the table of rounds, in the live picture
SHOWN_CLIENTS = 40  # of the cohort
_MARKS = {  # a sign, what stands for it where the output's encoding lacks it, and a style
    "training": ("▶", ">", "yellow"),
    "dropped": ("▶", ">", "yellow"),
    "uploaded": ("✓", "+", "green"),
    "refused": ("✗", "x", "red"),
    "late": ("⌛", "~", "magenta"),
}
_NO_MARK = ("·", ".", "dim")


def rounds_table(rows: list[Row]) -> Table:
    """A line a round: the model's quality, the traffic, and clients without an update in it."""
    table = Table()
    metrics = figures.names_of(rows) or ["accuracy", "loss"]
    for name in ("round", *map(clean, metrics), "seconds", "updates", "up", "down"):
        table.add_column(name, justify="right", no_wrap=True)
    has_absentees = any(absentees(row) for row in rows)
    if has_absentees:
        table.add_column("refused or missing")
    for row in rows:
        table.add_row(
            str(row.round),
            *(figures.number(name, row.metrics.get(name)) for name in metrics),
            f"{row.seconds:.1f}",
            str(row.updates),
            human_bytes(row.bytes_up),
            human_bytes(row.bytes_down),
            *([plain_text(absentees(row))] if has_absentees else []),
        )
    return table


def absentees(row: Row) -> str:
    """Which clients have no update in a round's model, and why; empty where all have."""
    found = [f"{client} refused: {reason}" for client, reason in row.refused.items()]
    found += [f"{client} missing" for client in row.missing]
    if row.attempts > 1:
        found.append(f"{row.attempts} attempts")
    return "; ".join(found)


def fault_line(event: Event) -> str:
    """A line about an event that is no part of a good run; empty for the others."""
    if event.kind in ("refused", "late", "dropped"):
        who = event.client_id or "of the test set's figures"
        return f"round {event.round}: {who} {event.kind}: {event.message}"
    if event.kind == "unmeasured":
        return f"round {event.round}: its model is not measured: {event.message}"
    if event.kind == "unevaluated":
        return f"{event.client_id} did not evaluate the last model: {event.message}"
    return ""


class RunProgress(Protocol):
    """Shows a run while it is entered as a context manager; `watchers` is told what happens."""

    watchers: Watchers

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def say(self, message: str) -> None: ...


class PlainProgress:
    """One line an event worth a line; for logs, pipes and CI."""

    def __init__(self, console: Console, rounds: int) -> None:
        self.watchers = Watchers(self._on_event, self._on_experiment, self._on_row)
        self._console = console
        self._rounds = rounds
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, message: str) -> None:
        print_line(self._console, message)

    def _on_event(self, event: Event) -> None:
        if line := fault_line(event):
            self.say(line)

    def _on_experiment(self, experiment: ExperimentView) -> None:
        if experiment.round == 0 and experiment.progress != self._last:
            self.say(experiment.progress)
            self._last = experiment.progress

    def _on_row(self, row: Row) -> None:
        gone = absentees(row)
        self.say(
            f"round {row.round}/{self._rounds}: {figures.in_words(row.metrics)}, "
            f"{row.seconds:.1f} s, {row.updates} updates, {human_bytes(row.bytes_up)} up, "
            f"{human_bytes(row.bytes_down)} down" + (f" ({gone})" if gone else "")
        )


class LiveProgress:
    """The overall bar, the cohort's clients, and the table of rounds, redrawn in place."""

    def __init__(self, console: Console, rounds: int) -> None:
        self.watchers = Watchers(self._on_event, self._on_experiment, self._on_row)
        self._console = console
        self._rows: list[Row] = []
        self._clients: dict[str, Event] = {}
        self._cohort: list[str] = []
        self._round = 0
        self._reported: frozenset[str] = frozenset()
        self._line = ""
        self._bar = Progress(
            TextColumn("rounds"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._task = self._bar.add_task("rounds", total=rounds)
        self._live = Live(
            console=console, get_renderable=self._draw, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, message: str) -> None:
        print_line(self._console, message)

    def _on_event(self, event: Event) -> None:
        if line := fault_line(event):
            self.say(line)
        if (
            event.client_id and event.kind != "waiting"
        ):  # it would wipe out what the client has just done
            self._clients[event.client_id] = event

    def _on_experiment(self, experiment: ExperimentView) -> None:
        self._line = experiment.progress
        if experiment.current_round:
            self._cohort = experiment.current_round.cohort
            self._round = experiment.current_round.number
            self._reported = frozenset(experiment.current_round.reported)

    def _on_row(self, row: Row) -> None:
        self._rows.append(row)
        self._bar.update(self._task, completed=row.round)

    def _draw(self) -> Group:
        parts: list[Any] = [self._bar]
        if self._rows:
            parts.append(rounds_table(self._rows[-SHOWN_ROWS:]))
        if self._cohort:
            parts.append(self._cohort_line())
        parts.append(plain_text(self._line, "dim"))
        return Group(*parts)

    def _cohort_line(self) -> Text:
        line = Text("cohort  ")
        kinds: Counter[str] = Counter()
        for client_id in self._cohort:
            kind = self._kind_of(client_id)
            kinds[kind] += 1
            wanted, plain, style = _MARKS.get(kind, _NO_MARK)
            mark = printable(self._console, wanted, plain)
            if sum(kinds.values()) <= SHOWN_CLIENTS:
                line.append(f"{mark} {client_id.removeprefix('client-')}  ", style=style)
        line.append(f"({kinds['training']} training, {kinds['uploaded']} uploaded)", style="dim")
        return line

    def _kind_of(self, client_id: str) -> str:
        """What a client of the cohort does, such as "training".

        An upload counts once the coordinator reports it, as in the coordinator's own line below.
        """
        if client_id in self._reported:
            return "uploaded"
        event = self._clients.get(client_id)
        if event is None or event.round != self._round:
            return "waiting"
        return "training" if event.kind == "uploaded" else event.kind


def choose(console: Console, rounds: int) -> RunProgress:
    """The live picture where there is a terminal to draw it on, else plain lines."""
    return (LiveProgress if console.is_terminal else PlainProgress)(console, rounds)
