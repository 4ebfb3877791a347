"""What a run costs as the number of its clients grows, ten of them a round.

    python -m benchmarks.coordinator.growth [--full --data-dir DIR]

The same examples are shared out among 20, 100 and 500 clients, so a round trains on fewer of them
the more there are: the seconds that nobody trains in are what should stay flat. Peak memory is that
of the process that holds the clients (VmHWM: Linux).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tables import Row, Table, command
from benchmarks.training.accuracy import machine
from client_sdk.engines.processes import usable_cores

CLIENTS = (20, 100, 500)
FLAT = 1.5  # times the figure of 20 clients is still flat: these machines are noisy
PROGRAM = """
import sys
from pathlib import Path
from client_sdk.cli.command_line import run
try:
    code = run(sys.argv[1:])
finally:
    # Not getrusage: its peak goes from a process to those that it starts.
    status = Path("/proc/self/status").read_text()
    print(status.split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(code)
"""


def run(dataset: str, clients: int, rounds: int, data_dir: Path, *more: str) -> dict[str, Any]:
    """Seconds, and the peak memory in MB of the process that holds the clients."""
    options = ["--dataset", dataset, "--data-dir", str(data_dir), "--clients", str(clients)]
    options += ["--rounds", str(rounds), "--json", *more]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", PROGRAM, *options, "--out", out]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wall = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"the run failed: {done.stderr[-2000:]}")
    report = json.loads(done.stdout)
    memory = int(done.stderr.splitlines()[-1])
    trained = [r["federated"].get("train_seconds", 0.0) * r["updates"] for r in report["rounds"]]
    return {
        "clients": clients,
        "wall": wall,
        "rounds": sum(row["seconds"] for row in report["rounds"]),
        "training": sum(trained),
        "requests": report["cost"]["requests"],
        "memory": memory / 1024,
        "accuracy": report["totals"]["final_accuracy"],
    }


def measure(full: bool, data_dir: Path) -> Table:
    """Five minutes in full, one without."""
    table = Table(
        "Growth in the number of clients",
        f"python -m benchmarks.coordinator.growth{' --full' if full else ''} --data-dir DIR",
        "20 clients",
    )
    rounds = 10 if full else 3
    sets = ["digits", "mnist"] if full else ["digits"]
    for dataset in sets:
        found = [run(dataset, clients, rounds, data_dir) for clients in CLIENTS]
        table.data[dataset] = found
        _rows(table, dataset, found)
    if full:
        options = ("--clients-per-round", "100")
        many = run("mnist", 1000, 3, data_dir, *options)
        table.data["1000 clients, 100 a round"] = many
        table.rows.append(
            Row(
                "mnist, 1,000 clients, 100 a round, 3 rounds: it completes",
                f"{many['wall']:.1f} s, {many['memory']:.0f} MB",
                "",
                None,
                "completes",
                True,
            )
        )
    table.data["machine"] = machine()
    table.notes.append(
        f"{rounds} rounds of ten clients, the defaults otherwise. `besides training` is the wall "
        "time less the seconds in which the cores trained (each client's own, over two cores): "
        "start, enrolment, requests, aggregation, evaluation, and the clients' last evaluation."
    )
    table.notes.append(
        "A client that is never drawn still costs three requests: it subscribes, fetches the last "
        "model and reports what that is worth on its own data."
    )
    return table


def _rows(table: Table, dataset: str, found: list[dict[str, Any]]) -> None:
    cores = usable_cores()
    first = found[0]
    for row in found[1:]:
        own, other = (f["wall"] - f["training"] / cores for f in (row, first))
        for what, mine, theirs, unit in (
            ("seconds besides training", own, other, "s"),
            ("seconds", row["wall"], first["wall"], "s"),
            ("seconds a round", row["rounds"], first["rounds"], "s"),
            ("peak memory", row["memory"], first["memory"], "MB"),
        ):
            ratio = mine / theirs
            flat = what in ("seconds", "seconds a round", "peak memory")
            table.rows.append(
                Row(
                    f"{dataset}, {row['clients']} clients: {what}",
                    *(f"{mine:.1f} {unit}", f"{theirs:.1f} {unit}", ratio),
                    *((f"at most {FLAT}", ratio <= FLAT) if flat else ("", None)),
                )
            )


if __name__ == "__main__":
    command(__doc__, measure)
