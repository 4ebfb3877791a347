"""Tables and plots of the studies, from the content of their results files."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.intervals import mean_interval

Table = list[list[str]]
Runs = Sequence[dict[str, Any]]

# Rounds to 99 % as McMahan et al., arXiv:1602.05629, table 2 prints them; best round in % as Flower
# reproduced NIID-Bench (arXiv:2102.02079). Its SCAFFOLD kept momentum, see docs/measurements.md.
MCMAHAN_PAPER = {
    ("E=1, B=10", "IID"): 34,
    ("E=5, B=10", "IID"): 20,
    ("E=20, B=10", "IID"): 18,
    ("E=1, B=10", "two shards"): 350,
    ("E=5, B=10", "two shards"): 229,
    ("E=20, B=10", "two shards"): 173,
}
NIID_ROWS = ("FedAvg", "SCAFFOLD", "FedProx", "FedNova")
NIID_PAPER = {
    "mnist": {
        "IID": (99.09, 99.06, 99.16, 99.05),
        "Dir .5": (98.89, 99.07, 99.02, 98.03),
        "2 labels": (96.86, 96.92, 96.85, 96.65),
    },
    "cifar": {
        "IID": (71.32, 71.66, 71.26, 70.69),
        "Dir .5": (62.47, 68.08, 65.63, 63.89),
        "2 labels": (51.17, 49.42, 50.44, 46.90),
    },
}


def tables(name: str, record: dict[str, Any]) -> list[Table]:
    """The tables of a study, each with its head and its alignment first."""
    return {
        "labels": lambda: [accuracies(record), costs(record)],
        "malicious": lambda: [accuracies(record), backdoors(record)],
        "stragglers": lambda: [stragglers(record)],
        "niid-bench": lambda: [niid_bench(record)],
        "mcmahan": lambda: [mcmahan(record)],
    }[name]()


def accuracies(record: dict[str, Any]) -> Table:
    """The last model's accuracy: a row a strategy, a column a split or an attack."""
    return _grid(record, _accuracy)


def backdoors(record: dict[str, Any]) -> Table:
    """The share of pictures with the trigger that the backdoor opens for."""
    only = [r for r in record["runs"] if r["column"].startswith(("backdoor", "none"))]
    return _grid(record | {"runs": only}, lambda runs: spread([_last(r, "backdoor") for r in runs]))


def costs(record: dict[str, Any]) -> Table:
    """What the rounds took: simulated seconds and estimated dollars, the means of the seeds."""

    def cell(runs: Runs) -> str:
        seconds, usd = (
            statistics.mean(_last(r, name) for r in runs) for name in ("seconds", "usd")
        )
        return f"{seconds:.0f} s, ${usd:.4f}"

    return _grid(record, cell)


def stragglers(record: dict[str, Any]) -> Table:
    """A row a schedule and a fleet: seconds, dollars, what was trained for nothing, accuracy."""
    heads = [f"clients ({_extent(record)})", "schedule", "simulated seconds", "estimated dollars"]
    heads += ["trainings that came too late", "lost", "accuracy"]
    rows = [heads, ["---", "---", *["---:"] * 5]]
    for (row, column), runs in _cells(record):
        mean = {name: statistics.mean(_last(r, name) for r in runs) for name in ("seconds", "usd")}
        events = {
            kind: statistics.mean(r["events"].get(kind, 0) for r in runs)
            for kind in ("uploaded", "late", "dropped")
        }
        rows.append(
            [
                *(column, row, f"{mean['seconds']:.0f}", f"{mean['usd']:.4f}"),
                f"{events['late']:.0f} of {events['late'] + events['uploaded']:.0f}",
                f"{events['dropped']:.0f}",
                _accuracy(runs),
            ]
        )
    return rows


def niid_bench(record: dict[str, Any]) -> Table:
    """The best round's accuracy beside the published one."""
    published = NIID_PAPER["cifar" if "--dataset" in record["command"] else "mnist"]
    rounds = f"{record['form']['rounds']} rounds"
    heads = ["split", "strategy", f"ours: best of {rounds}", "published: best of 50"]
    rows = [heads, ["---", "---", "---:", "---:"]]
    for (row, column), runs in _cells(record):
        best = [max(r["accuracy"] for r in run["rounds"] if "accuracy" in r) for run in runs]
        theirs = published[column][NIID_ROWS.index(row)]
        rows.append([column, row, spread(best), f"{theirs:.2f}%"])
    return rows


def mcmahan(record: dict[str, Any]) -> Table:
    """Rounds until a model is right on 99 % of the test set, beside the published ones."""
    rows = [["split", "training", "ours", "published"], ["---", "---", "---:", "---:"]]
    for (row, column), runs in _cells(record):
        found = [
            next((r["round"] for r in run["rounds"] if r.get("accuracy", 0) >= 0.99), None)
            for run in runs
        ]
        most = record["form"]["rounds"]
        shown = ", ".join(str(n) if n else f"not in {most}" for n in found)
        rows.append([column, row, shown, str(MCMAHAN_PAPER[row, column])])
    return rows


def spread(values: Sequence[float]) -> str:
    """A rate; of five seeds or more with the 95% interval of its mean, of fewer with their number.

    Fewer seeds say little of a spread.
    """
    mean = f"{statistics.mean(values):.1%}"
    if len(values) == 1:
        return mean
    if len(values) < 5:
        return f"{mean} ({len(values)} seeds)"
    low, high = mean_interval(values)
    return f"{mean} ({low:.1%} to {high:.1%})"


def _accuracy(runs: Runs) -> str:
    """The spread of the last accuracies; a run that failed, as where a model diverges, has none."""
    ended = [_last(run, "accuracy") for run in runs if run.get("state") != "failed"]
    failed = len(runs) - len(ended)
    if not ended:
        return f"failed ({failed} seed{'s' * (failed > 1)})"
    return spread(ended) + (f", {failed} failed" if failed else "")


def _extent(record: dict[str, Any]) -> str:
    """How much the table is of: `10 rounds, 6,000 examples, 1 seed`."""
    form, seeds = record["form"], min(len(runs) for _, runs in _cells(record))
    parts = [f"{form['rounds']} rounds", f"{seeds} seed{'s' * (seeds > 1)}"]
    if form["train"]:
        parts.insert(1, f"{form['train']:,} examples")
    return ", ".join(parts)


def draw(name: str, record: dict[str, Any], path: Path) -> None:
    """Accuracy by round, by simulated second and by estimated dollar; a line of plots a column."""
    columns = list(dict.fromkeys(run["column"] for run in record["runs"]))
    if name == "malicious":
        _bars(record, path)
        return
    axes_of = {"round": "rounds", "seconds": "simulated seconds", "usd": "estimated dollars"}
    figure = Figure(figsize=(12, 2.9 * len(columns) + 0.6), layout="constrained")
    plots = figure.subplots(len(columns), len(axes_of), sharey="row", squeeze=False)
    rows = list(dict.fromkeys(run["row"] for run in record["runs"]))
    for line, column in zip(plots, columns, strict=True):
        for axes, (of, words) in zip(line, axes_of.items(), strict=True):
            for (row, where), runs in _cells(record):
                if where == column:
                    x, y = _mean_curve(runs, of)
                    axes.plot(x, y, label=row, color=f"C{rows.index(row)}", marker=".")
            axes.set_xlabel(words)
            axes.locator_params(axis="x", nbins=5)  # dollars have long numbers
            axes.grid(alpha=0.3)
        line[0].set_ylabel(f"{column}: accuracy")
    plots[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def _bars(record: dict[str, Any], path: Path) -> None:
    """Accuracy by rule for each attack."""
    columns = list(dict.fromkeys(run["column"] for run in record["runs"]))
    rows = list(dict.fromkeys(run["row"] for run in record["runs"]))
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots()
    for (row, column), runs in _cells(record):
        place = columns.index(column) + 0.13 * (rows.index(row) - len(rows) / 2 + 0.5)
        value = statistics.mean(_last(run, "accuracy") for run in runs)
        first = column == columns[0]
        axes.bar(place, value, 0.13, color=f"C{rows.index(row)}", label=row if first else None)
    axes.set_xticks(range(len(columns)), [c.replace(", ", "\n") for c in columns], fontsize=8)
    axes.set_ylabel("accuracy of the last model")
    axes.legend(fontsize=8, ncols=len(rows), loc="upper center", bbox_to_anchor=(0.5, 1.1))
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def _mean_curve(runs: Runs, of: str) -> tuple[list[float], list[float]]:
    """The mean of `of` and of the accuracy over the seeds, at each measured round of all seeds."""
    measured = [[r for r in run["rounds"] if "accuracy" in r] for run in runs]
    places = list(zip(*measured, strict=False))
    return (
        [statistics.mean(r[of] for r in place) for place in places],
        [statistics.mean(r["accuracy"] for r in place) for place in places],
    )


def _grid(record: dict[str, Any], cell: Any) -> Table:
    columns = list(dict.fromkeys(run["column"] for run in record["runs"]))
    cells = {place: cell(runs) for place, runs in _cells(record)}
    rows = list(dict.fromkeys(row for row, _ in cells))
    return [
        [_extent(record), *columns],
        ["---", *["---:"] * len(columns)],
        *([row, *(cells.get((row, column), "") for column in columns)] for row in rows),
    ]


def _cells(record: dict[str, Any]) -> Iterator[tuple[tuple[str, str], Runs]]:
    """The runs of each row and column, in the order of the first ones."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in record["runs"]:
        found.setdefault((run["row"], run["column"]), []).append(run)
    yield from found.items()


def _last(run: dict[str, Any], name: str) -> float:
    """A figure of the last model; 0 where a run made none."""
    having = [row[name] for row in run["rounds"] if name in row]
    return float(having[-1]) if having else 0.0
