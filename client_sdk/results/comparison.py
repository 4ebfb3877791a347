"""Runs side by side, read from the reports in their folders."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from rich.table import Table

from client_sdk.errors import UsageError
from client_sdk.results.console import human_bytes, plain_text
from serverless_fl.domain.metrics import is_rate

REPORT = "report.json"
_NOT_CHOSEN = ("dataset_size",)  # follows from the data set
_SHOWN = 24  # characters of a value in the table of settings


@dataclass(frozen=True)
class Run:
    """The report of one run. `label` is the name of its folder."""

    label: str
    report: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.report["config"]
        return found

    @property
    def title(self) -> str:
        """Its label, data set, model and strategy."""
        of = (_shown(self.config.get(name)) for name in ("dataset", "model", "strategy"))
        return f"{self.label}: {', '.join(of)}"

    @property
    def metrics(self) -> set[str]:
        """The names of the metrics that each round has."""
        found = [set(_figures(row)) for row in self.report["rounds"]]
        return set.intersection(*found) if found else set()

    def curve(self, metric: str) -> list[tuple[int, float, float]]:
        """Give the number, the seconds from the first round on, and the metric of each round."""
        rows = self.report["rounds"]
        seconds = accumulate(row["seconds"] for row in rows)
        return [
            (row["round"], passed, _figures(row)[metric])
            for row, passed in zip(rows, seconds, strict=True)
        ]


_COUNTED = ("round", "seconds", "bytes_up", "bytes_down", "updates", "attempts")


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Give the metrics of a round: on the test set, and of the cohort under their own names."""
    both = {**row.get("federated", {}), **row.get("metrics", {}), **row}
    return {
        name: value
        for name, value in both.items()
        if isinstance(value, int | float) and type(value) is not bool and name not in _COUNTED
    }


def read(path: Path) -> Run:
    """Read the run in a folder, or the report itself. Raises UsageError."""
    file = path / REPORT if path.is_dir() else path
    try:
        report = json.loads(file.read_bytes())
        run = Run(file.resolve().parent.name, report)
        _require_form(run)
    except OSError as error:
        raise UsageError(f"{path} holds no finished run: {file}: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"{file} is no report of a run.") from error
    return run


def _require_form(run: Run) -> None:
    """Raise ValueError, TypeError, KeyError or AttributeError for what is no report."""
    if not isinstance(run.config, dict) or not isinstance(run.report["state"], str):
        raise TypeError("no settings")
    for metric in run.metrics:
        for number, seconds, value in run.curve(metric):
            if not math.isfinite(number + seconds):
                raise ValueError("not finite")
            float(value)


def with_own_labels(runs: Sequence[Run]) -> list[Run]:
    """Give the runs with labels that differ: folders of the same name get a number."""
    seen: dict[str, int] = {}
    found = []
    for run in runs:
        count = seen[run.label] = seen.get(run.label, 0) + 1
        found.append(run if count == 1 else Run(f"{run.label} ({count})", run.report))
    return found


def choose_metric(runs: Sequence[Run], wanted: str | None) -> str:
    """Give the metric to compare: `wanted`, else accuracy, loss or the first that all have.

    Raises UsageError if a run lacks it.
    """
    common = set.intersection(*(run.metrics for run in runs))
    if wanted is None:
        for name in ("accuracy", "loss", *sorted(common)):
            if name in common:
                return name
        raise UsageError("These runs have no metric in common that each of their rounds reports.")
    for run in runs:
        if wanted not in run.metrics:
            known = ", ".join(sorted(run.metrics)) or "none"
            raise UsageError(
                f"{run.label} has no metric {wanted!r} in each round; it has: {known}."
            )
    return wanted


def different_settings(runs: Sequence[Run]) -> list[str]:
    """Name the settings in which the runs differ, in their order. Missing ones count as null."""
    names = dict.fromkeys(name for run in runs for name in run.config)
    return [
        name
        for name in names
        if name not in _NOT_CHOSEN
        and len({json.dumps(run.config.get(name), sort_keys=True) for run in runs}) > 1
    ]


def summaries(runs: Sequence[Run], metric: str) -> Iterator[dict[str, Any]]:
    """Sum each run up: what differs in its settings, and what it reached in which time."""
    settings = different_settings(runs)
    better = max if is_rate(metric) else min
    for run in runs:
        points = run.curve(metric)
        best = better(points, key=lambda point: point[2], default=None)
        rows = run.report["rounds"]
        yield {
            "run": run.label,
            "dataset": run.config.get("dataset"),
            "model": run.config.get("model"),
            "strategy": run.config.get("strategy"),
            "differs": {name: run.config.get(name) for name in settings},
            "state": run.report["state"],
            "rounds": len(points),
            "metric": metric,
            "last": points[-1][2] if points else None,
            "best": best[2] if best else None,
            "best_round": best[0] if best else None,
            "seconds": sum(row["seconds"] for row in rows),
            "bytes": sum(row.get("bytes_up", 0) + row.get("bytes_down", 0) for row in rows),
        }


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Draw a column for each run: its figures, and the settings in which the runs differ."""
    drawn = Table()
    drawn.add_column("")
    for summary in found:
        drawn.add_column(plain_text(summary["run"]), justify="right")
    metric = found[0]["metric"]
    lines = {
        "data set": [str(s["dataset"]) for s in found],
        "model": [str(s["model"]) for s in found],
        "strategy": [_shown(s["strategy"]) for s in found],
    }
    for name in found[0]["differs"]:
        if name not in ("dataset", "model", "strategy"):
            lines[name] = [_shown(s["differs"][name]) for s in found]
    lines |= {
        "ended": [s["state"] for s in found],
        "rounds closed": [str(s["rounds"]) for s in found],
        f"{metric}, last": [_value(metric, s["last"]) for s in found],
        f"{metric}, best": [_best(metric, s) for s in found],
        "seconds": [f"{s['seconds']:.1f}" for s in found],
        "traffic": [human_bytes(s["bytes"]) for s in found],
    }
    for name, values in lines.items():
        drawn.add_row(plain_text(name), *map(plain_text, values))
    return drawn


def _value(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if is_rate(metric) else f"{value:.4f}"


def _best(metric: str, summary: Mapping[str, Any]) -> str:
    if summary["best"] is None:
        return "-"
    return f"{_value(metric, summary['best'])} (round {summary['best_round']})"


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict) and "name" in value:  # a choice with settings of its own
        others = (f"{key} {setting}" for key, setting in value.items() if key != "name")
        value = ", ".join([value["name"], *others])
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}\u2026"
