"""Bytes a round, and what they are worth: the default run with updates as each encoding.

    python -m benchmarks.coordinator.bytes [--full] [--data-dir DIR]

In full it is MNIST's default run, ten rounds of ten epochs; else three rounds of one epoch, of
MNIST where it lies in DIR, or of the digits. Every run goes through the real coordinator over HTTP,
with the same seed. Bytes are those of the files that clients sent and got; what the wire carried
in all, with requests and answers around them and int8 in gzip, is told beside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.tables import Row, Table, command
from benchmarks.training.accuracy import machine, run

PLAIN = "delta-float32"
UP, DOWN = "--update-encoding", "--download-encoding"
RUNS = {
    "weights": [UP, "weights"],
    PLAIN: [UP, PLAIN],
    "delta-float16, float16 down": [UP, "delta-float16", DOWN, "float16"],
    "delta-int8": [UP, "delta-int8"],
    "delta-int8, int8 down": [UP, "delta-int8", DOWN, "int8"],
}
MOST, POINTS = 0.27, 0.3  # of float32's bytes, of its accuracy


def measure(full: bool, data_dir: Path) -> Table:
    """Bytes and accuracy of every encoding beside those of float32."""
    dataset = "mnist" if full or (data_dir / "MNIST").exists() else "digits"
    options = [] if full else ["--rounds", "3", "--local-epochs", "1"]
    options += ["--data-dir", str(data_dir)]
    found = {name: _figures(run(dataset, 0, options + more)) for name, more in RUNS.items()}
    table = Table(
        title="Bytes",
        command="python -m benchmarks.coordinator.bytes" + " --full" * full,
        peer="float32",
        data={"dataset": dataset, "machine": machine(), "runs": found},
    )
    plain = found[PLAIN]
    for name, figures in found.items():
        for way in ("up", "down"):
            goal = "int8" in name and (way == "up" or DOWN in RUNS[name])
            ratio = figures[way] / plain[way]
            table.rows.append(
                Row(
                    f"{name}: bytes {way} a round",
                    f"{figures[way] / 1e3:.1f} kB",
                    f"{plain[way] / 1e3:.1f} kB",
                    ratio,
                    f"at most {MOST}" if goal else "",
                    ratio <= MOST if goal else None,
                )
            )
        goal = full and "int8" in name
        lost = 100 * (plain["accuracy"] - figures["accuracy"])
        table.rows.append(
            Row(
                f"{name}: final accuracy",
                f"{figures['accuracy']:.2%}",
                f"{plain['accuracy']:.2%}",
                None,
                f"within {POINTS} points" if goal else "",
                lost <= POINTS if goal else None,
            )
        )
    wire = ", ".join(f"{n} {f['wire_up'] / 1e3:.0f}" for n, f in found.items())
    table.notes.append(
        f"On {dataset}, seed 0, ten of 20 clients a round. What the wire carried up a round, in "
        f"kB, with the JSON of all requests and int8 in gzip: {wire}."
    )
    return table


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    totals, rounds = report["totals"], len(report["rounds"])
    return {
        "up": totals["bytes_up"] / rounds,
        "down": totals["bytes_down"] / rounds,
        "wire_up": report["cost"]["bytes_in"] / rounds,
        "wire_down": report["cost"]["bytes_out"] / rounds,
        "accuracy": totals["final_accuracy"],
        "by_round": [row["accuracy"] for row in report["rounds"]],
    }


if __name__ == "__main__":
    command(__doc__, measure)
