"""All of the comparisons in one run on one machine, written to benchmarks/RESULTS.md.

    make bench                                the short forms, about ten minutes
    make bench ARGS="--full --data-dir DIR"   what RESULTS.md has, about an hour

What needs MNIST is left out where it is not in DIR. Beside RESULTS.md there are the figures that it
was worked out of (benchmarks/results/bench.json) and plots.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.coordinator import aggregation, bytes, growth, requests, waiting
from benchmarks.peers import peers, strategies
from benchmarks.plots import plot
from benchmarks.tables import Table
from benchmarks.training import local_loop
from benchmarks.training.accuracy import RESULTS, machine

FILE = Path(__file__).parent / "RESULTS.md"


def parts(full: bool, data_dir: Path) -> dict[str, Callable[[], Table]]:
    """The benchmarks by name, in the order of RESULTS.md."""
    return {
        "peers": lambda: peers.measure(full, data_dir),
        "strategies": strategies.measure,
        "local_loop": lambda: local_loop.measure(full),
        "coordinator": lambda: requests.measure(full),
        "aggregation": lambda: aggregation.measure(full),
        "bytes": lambda: bytes.measure(full, data_dir),
        "waiting": lambda: waiting.measure(full, data_dir),
        "growth": lambda: growth.measure(full, data_dir),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--only", nargs="+", help="... of the benchmarks; the others stay out")
    arguments = parser.parse_args()
    mnist = (arguments.data_dir / "MNIST").exists()
    if arguments.full and not mnist:
        parser.error(f"there is no MNIST in {arguments.data_dir}: the full forms need it")
    tables: dict[str, Table] = {}
    skipped, started = [], datetime.now(UTC)
    for name, measure in parts(arguments.full, arguments.data_dir).items():
        if arguments.only and name not in arguments.only:
            continue
        if name == "peers" and not mnist:
            skipped.append("The peers' comparison needs MNIST, which is not here.")
            continue
        begun = time.monotonic()
        tables[name] = measure()
        print(tables[name].markdown())
        print(f"({name}: {time.monotonic() - begun:.0f} s)\n", flush=True)
        _write(tables, skipped, arguments.full, started)  # an hour's work outlives what comes next


def _write(tables: dict[str, Table], skipped: list[str], full: bool, started: datetime) -> None:
    rows = [row for table in tables.values() for row in table.rows if row.met is not None]
    missed = [row for row in rows if not row.met]
    load = os.getloadavg()[0]
    took = (datetime.now(UTC) - started).total_seconds() / 60
    head = [
        "# Results",
        "",
        f"All of it from one run of `python -m benchmarks{' --full' if full else ''}` on one "
        f"machine: {machine()}; Python {platform.python_version()}, PyTorch {version('torch')}; "
        f"{started:%Y-%m-%d}, {took:.0f} minutes. A ratio is ours over the peer's in the same run "
        "(for rates, more is better; for seconds and bytes, less). "
        f"Of {len(rows)} goals {len(rows) - len(missed)} are met.",
        "",
        *skipped,
    ]
    text = "\n".join([*head, "", *(table.markdown() for table in tables.values())])
    FILE.write_text(text.rstrip() + "\n")
    RESULTS.mkdir(exist_ok=True)
    data = {name: table.data for name, table in tables.items()}
    figures = json.dumps({"machine": machine(), "load_at_end": load, **data}, indent=2, default=str)
    (RESULTS / "bench.json").write_text(figures + "\n")
    plot(tables, RESULTS / "bench.png")


if __name__ == "__main__":
    main()
