"""What a run leaves behind: report.json, global.safetensors and a plot of its rounds."""

from __future__ import annotations

import json
import os
import platform
import secrets
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from client_sdk.simulate import Outcome, Row


def build_report(
    outcome: Outcome, *, dataset: str, note: str, parameters: int, wall_seconds: float
) -> dict[str, Any]:
    """The report's content. Seconds and bytes; accuracies are fractions of the test set."""
    experiment, rows = outcome.experiment, outcome.rows
    return {
        "experiment": experiment.id,
        "state": experiment.state,
        "reason": experiment.reason,
        "dataset": dataset,
        "dataset_note": note,
        "parameters": parameters,
        "config": experiment.config.model_dump(),
        "versions": versions(),
        "rounds": [asdict(row) for row in rows],
        "totals": {
            "rounds": len(rows),
            "final_accuracy": rows[-1].accuracy if rows else None,
            "best_accuracy": max((row.accuracy for row in rows), default=None),
            "final_loss": rows[-1].loss if rows else None,
            "round_seconds": sum(row.seconds for row in rows),
            "wall_seconds": wall_seconds,
            "bytes_up": sum(row.bytes_up for row in rows),
            "bytes_down": sum(row.bytes_down for row in rows),
            "updates": sum(row.updates for row in rows),
            "refused": sum(len(row.refused) for row in rows),
            "missing": sum(len(row.missing) for row in rows),
        },
    }


def versions() -> dict[str, str]:
    """What a report must name so that its figures can be had again."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("torchvision", "numpy", "httpx", "safetensors", "serverless-fl"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def write(out: Path, report: dict[str, Any], outcome: Outcome) -> list[Path]:
    """Write all three into `out`; each appears whole or not at all. Gives their paths."""
    written = []
    replace_file(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    written.append(out / "report.json")
    replace_file(out / "global.safetensors", outcome.weights)
    written.append(out / "global.safetensors")
    if outcome.rows:
        plot(out / "accuracy.png", outcome.rows, f"{report['dataset']}, {report['experiment']}")
        written.append(out / "accuracy.png")
    return written


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file whole: readers see the old one or the new one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    draft.replace(path)


def plot(path: Path, rows: list[Row], title: str) -> None:
    """Accuracy and loss by round, as a PNG."""
    # Imported here: half a second that a participant does not need to wait for.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    numbers = [row.round for row in rows]
    figure = Figure(figsize=(9, 4), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    left.plot(numbers, [row.accuracy for row in rows], "o-", label="test set")
    local = [
        (r.round, r.federated["accuracy_after"]) for r in rows if "accuracy_after" in r.federated
    ]
    if local:
        left.plot(*zip(*local, strict=True), ".--", label="clients' own, after local training")
    left.set(xlabel="round", ylabel="accuracy", title=f"Accuracy: {rows[-1].accuracy:.2%}")
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.plot(numbers, [row.loss for row in rows], "o-", color="tab:red", label="test set")
    right.set(xlabel="round", ylabel="cross-entropy", title=f"Loss: {rows[-1].loss:.4f}")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    draft = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.png")
    figure.savefig(draft, dpi=130)
    draft.replace(path)
