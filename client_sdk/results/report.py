"""The files of a run: report.json, the last model, the best one and two figures."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from client_sdk.results import plots
from client_sdk.results.by_site import BySite
from client_sdk.results.files import replace_file
from client_sdk.results.personal import personal
from client_sdk.results.training_faults import warnings_of
from client_sdk.results.version_figures import VersionFigures, figures
from client_sdk.simulation.outcome import Outcome, Row
from client_sdk.task.evaluation import MAX_MATRIX, Classes
from serverless_fl import __version__


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
    sites: BySite | None = None,
    test_sites: BySite | None = None,
) -> dict[str, Any]:
    """The report's content. Seconds and bytes; accuracies are fractions of the test set.

    The best round is chosen by the test set, so its accuracy flatters a little. `classes` counts
    the last model's answers on the test set, `cost` is an estimate of `client_sdk.results.cost`,
    `loop` says what trained, `sites` has the last model's figures at each client, and `test_sites`
    those on the test examples of each site.
    """
    experiment, rows = outcome.experiment, outcome.rows
    versions = figures(experiment.history, outcome.models)
    return {
        "experiment": experiment.id,
        "state": experiment.state,
        "reason": experiment.reason,
        "always_refused": [refusal.model_dump() for refusal in experiment.always_refused],
        "left_out": [one.model_dump() for one in experiment.left_out],
        "warnings": warnings_of(rows, classes),
        "dataset": dataset,
        "dataset_note": note,
        "parameters": parameters,
        "config": experiment.config.model_dump(),
        "origin": experiment.origin.model_dump() if experiment.origin else None,
        "versions": package_versions(),
        "loop": loop,
        "rounds": [_round(row) for row in rows],
        "models": [_figures_of(found) for found in versions],
        "evaluation": _evaluation(classes) if classes else None,
        "sites": sites.as_json() if sites else None,
        "test_sites": test_sites.as_json() if test_sites else None,
        "personal": personal(outcome.models, experiment.config.fine_tune_epochs),
        "cost": cost,
        "privacy": experiment.privacy.model_dump() if experiment.privacy else None,
        "totals": {
            "rounds": len(rows),
            "final_accuracy": rows[-1].metrics.get("accuracy") if rows else None,
            "best_accuracy": outcome.best_row.metrics.get("accuracy") if rows else None,
            "best_round": outcome.best_row.round if rows else None,
            "best_metrics": outcome.best_row.metrics if rows else {},
            "final_loss": rows[-1].metrics.get("loss") if rows else None,
            "final_metrics": rows[-1].metrics if rows else {},
            "final_federated_accuracy": _last(versions, "accuracy"),
            "final_federated_loss": _last(versions, "loss"),
            "round_seconds": sum(row.seconds for row in rows),
            "wall_seconds": wall_seconds,
            "bytes_up": sum(row.bytes_up for row in rows),
            "bytes_down": sum(row.bytes_down for row in rows),
            "updates": sum(row.updates for row in rows),
            "refused": sum(len(row.refused) for row in rows),
            "missing": sum(len(row.missing) for row in rows),
        },
    }


def _round(row: Row) -> dict[str, Any]:
    leading = {name: row.metrics.get(name) for name in ("accuracy", "loss")}
    return {"round": row.round, **leading, **asdict(row)}


def _figures_of(found: VersionFigures) -> dict[str, Any]:
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
        "confusion": classes.confusion if len(classes.names) <= MAX_MATRIX else None,
    }


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that the figures depend on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("torchvision", "numpy", "httpx", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"serverless-fl": __version__}


def write(
    out: Path, report: dict[str, Any], outcome: Outcome, classes: Classes | None = None
) -> list[Path]:
    """Write all files into `out`, each whole or not at all; gives their paths."""
    written: list[Path] = []

    def put(name: str, data: bytes) -> None:
        replace_file(out / name, data)
        written.append(out / name)

    put("report.json", (json.dumps(report, indent=2) + "\n").encode())
    put("global.safetensors", outcome.weights)
    if outcome.best is not None:
        put("best.safetensors", outcome.best)
    title = f"{report['dataset']}, {report['experiment']}"
    if outcome.rows:
        found = figures(outcome.experiment.history, outcome.models)
        put("accuracy.png", plots.rounds(outcome.rows, found, title))
    if classes:
        put("evaluation.png", plots.evaluation(classes, title))
    return written
