"""What a run leaves behind: report.json, the last model, the best one and two figures."""

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

from client_sdk.results import plots
from client_sdk.results.health import warnings_of
from client_sdk.simulation.simulate import Outcome, best_of
from client_sdk.task.evaluation import MOST_CLASSES, Classes, VersionFigures, figures


def build_report(
    outcome: Outcome,
    *,
    dataset: str,
    note: str,
    parameters: int,
    wall_seconds: float,
    classes: Classes | None = None,
    cost: dict[str, Any] | None = None,
    loop: str = "",
) -> dict[str, Any]:
    """The report's content. Seconds and bytes; accuracies are fractions of the test set.

    The best round is the best of several looks at the test set, so its accuracy flatters a little.

    `classes` are the last model's answers on it, `cost` is what client_sdk.results.cost estimates,
    `loop` says what trained.
    """
    experiment, rows = outcome.experiment, outcome.rows
    versions_ = figures(experiment.history, outcome.models)
    return {
        "experiment": experiment.id,
        "state": experiment.state,
        "reason": experiment.reason,
        "always_refused": [refusal.model_dump() for refusal in experiment.always_refused],
        "warnings": warnings_of(rows, classes),
        "dataset": dataset,
        "dataset_note": note,
        "parameters": parameters,
        "config": experiment.config.model_dump(),
        "versions": versions(),
        "loop": loop,
        "rounds": [asdict(row) for row in rows],
        "models": [_version(found) for found in versions_],
        "evaluation": _evaluation(classes) if classes else None,
        "cost": cost,
        "totals": {
            "rounds": len(rows),
            "final_accuracy": rows[-1].accuracy if rows else None,
            "best_accuracy": best_of(rows).accuracy if rows else None,
            "best_round": best_of(rows).round if rows else None,
            "final_loss": rows[-1].loss if rows else None,
            "final_federated_accuracy": _last(versions_, "accuracy"),
            "final_federated_loss": _last(versions_, "loss"),
            "round_seconds": sum(row.seconds for row in rows),
            "wall_seconds": wall_seconds,
            "bytes_up": sum(row.bytes_up for row in rows),
            "bytes_down": sum(row.bytes_down for row in rows),
            "updates": sum(row.updates for row in rows),
            "refused": sum(len(row.refused) for row in rows),
            "missing": sum(len(row.missing) for row in rows),
        },
    }


def _version(found: VersionFigures) -> dict[str, Any]:
    return {**asdict(found), "federated": found.federated and found.federated.metrics}


def _last(found: list[VersionFigures], metric: str) -> float | None:
    federated = found[-1].federated if found and found[-1].version else None
    return federated.metrics.get(metric) if federated else None


def _evaluation(classes: Classes) -> dict[str, Any]:
    """The last model on the test set. Rows of `confusion` are true classes, columns answers."""
    return {
        "examples": sum(classes.examples),
        "accuracy": classes.accuracy,
        "classes": list(classes.names),
        "class_examples": classes.examples,
        "class_accuracy": classes.by_class,
        "worst_class": classes.names[classes.worst],
        "confusion": classes.confusion if len(classes.names) <= MOST_CLASSES else None,
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


def write(
    out: Path, report: dict[str, Any], outcome: Outcome, classes: Classes | None = None
) -> list[Path]:
    """Write all of it into `out`; each file appears whole or not at all. Gives their paths."""
    written = []
    replace_file(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    written.append(out / "report.json")
    replace_file(out / "global.safetensors", outcome.weights)
    written.append(out / "global.safetensors")
    if outcome.best is not None:
        replace_file(out / "best.safetensors", outcome.best)
        written.append(out / "best.safetensors")
    title = f"{report['dataset']}, {report['experiment']}"
    if outcome.rows:
        found = figures(outcome.experiment.history, outcome.models)
        replace_file(out / "accuracy.png", plots.rounds(outcome.rows, found, title))
        written.append(out / "accuracy.png")
    if classes:
        replace_file(out / "evaluation.png", plots.evaluation(classes, title))
        written.append(out / "evaluation.png")
    return written


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file whole: readers see the old one or the new one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    draft.replace(path)


def create_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is not there yet. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
