"""What a person sees of a run: a live picture on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections import Counter
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from client_sdk.participant import Event
from client_sdk.results.console import shown, sign
from client_sdk.simulation.simulate import Row, Watchers
from serverless_fl.wire.views import ExperimentView

_MARKS = {  # a sign, what stands for it where the output's encoding lacks it, and a style
    "training": ("▶", ">", "yellow"),
    "dropped": ("▶", ">", "yellow"),
    "uploaded": ("✓", "+", "green"),
    "refused": ("✗", "x", "red"),
    "late": ("⌛", "~", "magenta"),
}
_NOTHING = ("·", ".", "dim")


def human_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def rounds_table(rows: list[Row]) -> Table:
    """A line a round: what the model is worth, what it took, and who did not make it."""
    table = Table()
    for name in ("round", "accuracy", "loss", "seconds", "updates", "up", "down"):
        table.add_column(name, justify="right", no_wrap=True)
    named = any(absentees(row) for row in rows)
    if named:
        table.add_column("refused or missing")
    for row in rows:
        table.add_row(
            str(row.round),
            f"{row.accuracy:.2%}",
            f"{row.loss:.4f}",
            f"{row.seconds:.1f}",
            str(row.updates),
            human_bytes(row.bytes_up),
            human_bytes(row.bytes_down),
            *([shown(absentees(row))] if named else []),
        )
    return table


def absentees(row: Row) -> str:
    named = [f"{client} refused: {reason}" for client, reason in row.refused.items()]
    named += [f"{client} missing" for client in row.missing]
    if row.attempts > 1:
        named.append(f"{row.attempts} attempts")
    return "; ".join(named)


class PlainProgress:
    """One line an event worth a line; for logs, pipes and CI."""

    def __init__(self, console: Console, rounds: int) -> None:
        self.console = console
        self.rounds = rounds
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @property
    def watchers(self) -> Watchers:
        return Watchers(self._event, self._experiment, self._row)

    def say(self, message: str) -> None:
        self.console.print(shown(message), soft_wrap=True)

    def _event(self, event: Event) -> None:
        if event.kind in ("refused", "late", "dropped"):
            self.say(f"round {event.round}: {event.client_id} {event.kind}: {event.message}")
        if event.kind == "unevaluated":
            self.say(f"{event.client_id} did not evaluate the last model: {event.message}")

    def _experiment(self, experiment: ExperimentView) -> None:
        if experiment.round == 0 and experiment.progress != self._last:
            self.say(experiment.progress)
            self._last = experiment.progress

    def _row(self, row: Row) -> None:
        gone = absentees(row)
        self.say(
            f"round {row.round}/{self.rounds}: accuracy {row.accuracy:.2%}, loss {row.loss:.4f}, "
            f"{row.seconds:.1f} s, {row.updates} updates, {human_bytes(row.bytes_up)} up, "
            f"{human_bytes(row.bytes_down)} down" + (f" ({gone})" if gone else "")
        )


class LiveProgress(PlainProgress):
    """The overall bar, the cohort's clients, and the table of rounds, redrawn in place."""

    def __init__(self, console: Console, rounds: int) -> None:
        super().__init__(console, rounds)
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

    def _event(self, event: Event) -> None:
        super()._event(event)
        if event.kind != "waiting":  # it would wipe out what the client has just done
            self._clients[event.client_id] = event

    def _experiment(self, experiment: ExperimentView) -> None:
        self._line = experiment.progress
        if experiment.current_round:
            self._cohort = experiment.current_round.cohort
            self._round = experiment.current_round.number
            self._reported = frozenset(experiment.current_round.reported)

    def _row(self, row: Row) -> None:
        self._rows.append(row)
        self._bar.update(self._task, completed=row.round)

    def _draw(self) -> Group:
        parts: list[Any] = [self._bar]
        if self._rows:
            parts.append(rounds_table(self._rows[-12:]))
        if self._cohort:
            parts.append(self._cohort_line())
        parts.append(shown(self._line, "dim"))
        return Group(*parts)

    def _cohort_line(self) -> Text:
        line = Text("cohort  ")
        kinds: Counter[str] = Counter()
        for client_id in self._cohort:
            event = self._clients.get(client_id)
            kind = event.kind if event and event.round == self._round else "waiting"
            # As the coordinator's own line below counts them, which is a moment behind.
            if client_id in self._reported:
                kind = "uploaded"
            elif kind == "uploaded":
                kind = "training"
            kinds[kind] += 1
            wanted, plain, style = _MARKS.get(kind, _NOTHING)
            mark = sign(self.console, wanted, plain)
            if sum(kinds.values()) <= 40:
                line.append(f"{mark} {client_id.removeprefix('client-')}  ", style=style)
        line.append(f"({kinds['training']} training, {kinds['uploaded']} uploaded)", style="dim")
        return line


def choose(console: Console, rounds: int) -> PlainProgress:
    """The live picture where there is a terminal to draw it on."""
    return (LiveProgress if console.is_terminal else PlainProgress)(console, rounds)
