"""The breast-cancer example beside the same in Flower and NVFlare: lines to write, seconds to run.

    python -m benchmarks.peers.breast_cancer [--full]

All read the same CSVs of three hospitals, train scikit-learn's logistic regression for five rounds
and print the accuracy on the same test. Lines are those with code; seconds are of the whole
command, imports included. Each peer runs in an environment of its own, made on first use. Ours also
fits the pooled rows, which the others leave out. `--full` writes
benchmarks/results/breast-cancer.json, from which docs/measurements.md is written.
"""

from __future__ import annotations

import datetime
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tokenize
from pathlib import Path
from typing import Any

from benchmarks.peers.peers import HERE, environment
from benchmarks.tables import Row, Table, command
from benchmarks.training.accuracy import RESULTS, machine
from examples.sample_files import hospitals

EXAMPLE = HERE.parent.parent / "examples" / "breast_cancer.py"
MOST_LINES = 12
PEERS = {  # by the name of their environment
    "flower_sklearn": ("Flower 1.42", HERE / "breast_cancer_flower_app.py"),
    "nvflare": ("NVFlare 2.9", HERE / "breast_cancer_nvflare_app.py"),
}
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def lines_of_code(path: Path) -> int:
    """Lines that are not blank, a comment or the file's docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    lines: set[int] = set()
    first = True
    for token in tokens:
        if token.type in _NO_CODE | {tokenize.ENDMARKER}:
            continue
        if not (first and token.type == tokenize.STRING):
            lines |= set(range(token.start[0], token.end[0] + 1))
        first = False
    return len(lines)


def run(command: list[str | Path], folder: Path) -> tuple[float, float]:
    """The seconds of a command, and the accuracy of the last line that has one.

    Raises RuntimeError where the command fails or prints none.
    """
    environ = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    started = time.monotonic()
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environ, cwd=folder
    )
    seconds = time.monotonic() - started
    found = re.findall(r"accuracy (\d+\.\d+)%", done.stdout)
    if done.returncode or not found:
        raise RuntimeError(f"{command[-5:]} failed: {done.stderr[-2000:]}")
    return seconds, float(found[-1]) / 100


def program(name: str, script: Path, runs: list[tuple[float, float]]) -> dict[str, Any]:
    """What the results file holds of a program; seconds and accuracy are medians."""
    seconds, accuracy = (statistics.median(column) for column in zip(*runs, strict=True))
    return {
        "name": name,
        "lines": lines_of_code(script),
        "seconds": round(seconds, 1),
        "accuracy": accuracy,
    }


def write(command: str, runs: int, programs: list[dict[str, Any]]) -> None:
    """Write the results file."""
    result = {
        "command": command,
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "runs": runs,
        "programs": programs,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "breast-cancer.json").write_text(json.dumps(result, indent=2) + "\n")


def measure(full: bool = False, _data_dir: Path = Path()) -> Table:
    """Five runs each in full, else one."""
    runs = 5 if full else 1
    table = Table(
        "The breast-cancer example beside its peers",
        f"python -m benchmarks.peers.breast_cancer{' --full' * full}",
        "peer",
    )
    lines = lines_of_code(EXAMPLE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = hospitals(folder)
        ours: list[tuple[float, float]] = []
        theirs: dict[str, list[tuple[float, float]]] = {peer: [] for peer in PEERS}
        apps = {peer: [environment(peer).absolute(), PEERS[peer][1], *files] for peer in PEERS}
        for _ in range(runs):  # in turn, so that each sees the same machine
            ours.append(run([sys.executable, "-m", "examples.breast_cancer"], Path.cwd()))
            for peer, app in apps.items():
                theirs[peer].append(run(app, folder))
    for peer, (title, script) in PEERS.items():
        other = lines_of_code(script)
        table.rows.append(
            Row(
                *(f"{title}: lines of code", str(lines), str(other), lines / other),
                *(f"at most {MOST_LINES}", lines <= MOST_LINES),
            )
        )
        mine, its = (statistics.median(s for s, _ in runs) for runs in (ours, theirs[peer]))
        table.rows.append(
            Row(
                *(f"{title}: seconds of the command", f"{mine:.1f}", f"{its:.1f}", mine / its),
                *("below 1", mine < its),
            )
        )
        table.rows.append(
            Row(f"{title}: accuracy", f"{ours[-1][1]:.2%}", f"{theirs[peer][-1][1]:.2%}")
        )
    table.data = {"lines": lines, "ours": ours, "peers": theirs}
    if full:
        programs = [program("ours", EXAMPLE, ours)]
        programs += [program(title, script, theirs[p]) for p, (title, script) in PEERS.items()]
        write(table.command, runs, programs)
    table.notes.append(
        f"The same CSVs of 280, 130 and 45 patients with missing values, five rounds; {runs} "
        "run(s), medians. Ours scales columns by the mean and deviation of all hospitals, from "
        "their sums, and also fits the pooled rows; the others scale each hospital by itself."
    )
    return table


if __name__ == "__main__":
    command(__doc__, measure)
