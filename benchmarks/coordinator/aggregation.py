"""The speed and memory of FedAvg, and rounds of up to 2,000 updates closed by small calls.

    python -m benchmarks.coordinator.aggregation [--full]

Prints a table and draws benchmarks/results/aggregation.png. `--full` takes about eight minutes and
20 GB of disk: models of up to 100 million parameters by up to 1,000 updates, and a round of 2,000
updates of 1.7 million parameters. The short form takes a minute and a half.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.coordinator.aggregation_average import parameters
from benchmarks.tables import Row, Table, command
from benchmarks.training.accuracy import RESULTS

COMMAND = "python -m benchmarks.coordinator.aggregation"
MODELS_GOAL = 3.5
LEAST_GOAL = 4 * 1024**2  # bytes, however small the model
FEDLESS = {25: 6.0, 100: 19.2, 200: 36.8}  # seconds a round by clients, as published
LIKE_FEDLESS = "1.7 million"
STEP_UPDATES = 64  # of the large round: what a call reads at most
SPEEDS: dict[bool, dict[str, tuple[int, ...]]] = {
    False: {"22 thousand": (10, 1000), "1.7 million": (10, 100), "25 million": (10,)},
    True: {
        "22 thousand": (10, 100, 1000),
        "1.7 million": (10, 100, 1000),
        "25 million": (10, 100, 1000),
        "100 million": (10, 100, 1000),
    },
}
MEMORY_UPDATES = (10, 100)


def measure(full: bool) -> Table:
    """All figures of the short form or of the full one."""
    table = Table(
        title="Aggregation",
        command=COMMAND + (" --full" if full else ""),
        peer="FedLess",
    )
    for model, counts in SPEEDS[full].items():
        for count in counts:
            table.rows.append(_speed(table, model, count))
    for model in SPEEDS[full]:
        table.rows.append(_memory(table, model))
    seconds = {count: _round(table, LIKE_FEDLESS, count) for count in FEDLESS}
    table.rows += [_beside_fedless(count, found) for count, found in seconds.items()]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "aggregation.png").write_bytes(_plot(seconds))
    model, count = (LIKE_FEDLESS, 2000) if full else ("22 thousand", 200)
    table.rows += _large(table, model, count)
    table.notes += NOTES
    return table


def _speed(table: Table, model: str, count: int) -> Row:
    found = _process("aggregation_average", model, str(count))
    table.data[f"speed, {model}, {count}"] = found
    return Row(
        what=f"FedAvg, {count} updates of {model} parameters",
        ours=f"{found['speed'] / 1e9:.2f} GB/s",
    )


def _memory(table: Table, model: str) -> Row:
    peaks = [
        _process("aggregation_average", model, str(count), "--memory")["peak"]
        for count in MEMORY_UPDATES
    ]
    table.data[f"memory, {model}"] = dict(zip(map(str, MEMORY_UPDATES), peaks, strict=True))
    size = 4 * parameters(model)
    few, many = MEMORY_UPDATES
    return Row(
        what=f"FedAvg's peak memory, {many} updates of {model} parameters",
        ours=f"{peaks[1] / size:.2f} models",
        peer=f"{peaks[0] / size:.2f} models with {few} updates (ours)",
        goal=f"at most {MODELS_GOAL:g} models, or 4 MiB",
        met=max(peaks) <= max(MODELS_GOAL * size, LEAST_GOAL),
    )


def _round(table: Table, model: str, count: int, step_updates: int | None = None) -> dict[str, Any]:
    options = [] if step_updates is None else ["--step-updates", str(step_updates)]
    found = _process("aggregation_rounds", model, str(count), *options)
    table.data[f"round, {model}, {count}"] = found
    return found


def _beside_fedless(count: int, found: dict[str, Any]) -> Row:
    return Row(
        what=f"Seconds of aggregation in a round of {count} clients, {LIKE_FEDLESS} parameters",
        ours=f"{found['fold_seconds']:.2f} s; {found['close_seconds']:.2f} s from the last commit "
        "to the next round, deletions too",
        peer=f"{FEDLESS[count]} s (FedLess, as published)",
        ratio=found["fold_seconds"] / FEDLESS[count],
    )


def _large(table: Table, model: str, wanted: int) -> list[Row]:
    count, size = wanted, 4 * parameters(model)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 1.5 * wanted * size:
        count = max(130, int(free / 1.5 / size))
        table.notes.append(
            f"The large round has {count} updates and not {wanted}: the disk has no room for more."
        )
    found = _round(table, model, count, STEP_UPDATES)
    what = f"Round of {count} updates of {model} parameters"
    most = found["most_updates"]
    return [
        Row(
            what=f"{what}: the most that one call read to fold",
            ours=f"{most} updates or sums, {found['most_bytes'] / 1e6:.0f} MB, in {found['calls']} "
            "calls",
            peer=f"{count} updates, {count * size / 1e6:.0f} MB (all of them)",
            ratio=most / count,
            goal=f"at most {STEP_UPDATES}",
            met=most <= STEP_UPDATES,
        ),
        Row(
            what=f"{what}: aggregation in all, and from the last commit to the close",
            ours=f"{found['fold_seconds']:.1f} s, {found['close_seconds']:.1f} s",
        ),
        Row(
            what=f"{what}: the coordinator's peak memory in calls that fold",
            ours=f"{found['peak'] / 1e6:.0f} MB",
            peer=f"{count * size / 1e6:.0f} MB (all updates)",
        ),
    ]


def _process(module: str, *arguments: str) -> dict[str, Any]:
    """What a benchmark of its own process prints."""
    command = [sys.executable, "-m", f"benchmarks.coordinator.{module}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=_ROOT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


_ROOT = Path(__file__).parents[2]


def _plot(seconds: dict[int, dict[str, Any]]) -> bytes:
    """Seconds by clients, ours beside FedLess's, on one axis."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    ours = [found["fold_seconds"] for found in seconds.values()]
    last = [found["close_seconds"] for found in seconds.values()]
    axes.plot([*FEDLESS], [*FEDLESS.values()], "s-", color="tab:red", label="FedLess, published")
    axes.plot([*seconds], ours, "o-", label="ours: all of a round's aggregation")
    axes.plot([*seconds], last, "o:", label="ours: from the last commit to the next round")
    axes.set(
        xlabel="clients in the round",
        ylabel="seconds",
        title=f"Aggregation of a round, {LIKE_FEDLESS} parameters (ours)",
        ylim=(0, None),
    )
    axes.set_xticks([*FEDLESS])
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


NOTES = [
    "FedAvg is fed as the coordinator feeds it: a span of 8 MiB after the other, and of each span "
    "one update after the other, tensor by tensor, in one thread, from memory that no cache holds. "
    "Each value is converted to float64, multiplied by its count and added to a sum. The median of "
    "the rounds that make 4 GiB of updates, one at least.",
    "Peak memory is that of a fresh process above what it had with NumPy loaded: sums (float64, "
    "so two models), one update, and 2 MiB of products, whatever the model. A model of more than "
    "8 MiB is folded span by span, so of a large one it is a small part. The coordinator itself "
    "also reads the next update ahead, SQLite holds a second copy of what it reads, and the C "
    "library keeps what threads have freed: that is the last row, and hangs on the size of a part "
    "and not on the model or the number of updates.",
    "FedLess (Grafberger et al., arXiv:2111.03396): 6.0, 19.2 and 36.8 s for 25, 100 and 200 "
    "clients, as published, on other machines, with other networks and over another database; the "
    "curves compare how the time grows, and no more. Ours is the coordinator's own service on "
    "SQLite, in this process: reading each update, checking its SHA-256, folding, storing. Groups "
    "of 64 updates are folded by the call that fills them, so most of it is done when the last "
    "update comes.",
    "The large round: every update is a file of its own, every call a new coordinator without "
    "memory of those before. Counted at the store: each read of an update's part, or of the sums "
    "of a group, but not the read by which a commit checks its own update.",
]


if __name__ == "__main__":
    command(__doc__, lambda full, _: measure(full))
