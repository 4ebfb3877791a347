"""A run of two rounds, as a tracker is told of it."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from client_sdk.simulation.outcome import Row

CONFIG = {"clients": 4, "learning_rate": 0.05, "quorum": None, "norm_action": "clip"}
FIRST = Row(
    round=1,
    metrics={"accuracy": 0.5, "loss": 1.5},
    seconds=2.0,
    bytes_up=1000,
    bytes_down=1200,
    updates=3,
    attempts=1,
    sha256="0" * 64,
    federated={"accuracy_before": 0.1, "train_loss": 2.0},
)
SECOND = replace(FIRST, round=2, metrics={"accuracy": 0.75, "loss": 0.75})
REPORT = {
    "state": "completed",
    "reason": "All 2 rounds are closed.",
    "totals": {"rounds": 2},
    "models": [
        {"version": 0, "federated": {"accuracy": 0.1}},
        {"version": 1, "federated": {"accuracy": 0.25, "loss": 1.0}},
        {"version": 2, "federated": None},
    ],
}


def files_of(folder):
    folder.mkdir()
    (folder / "report.json").write_text("{}")
    (folder / "global.safetensors").write_bytes(b"weights")
    Image.new("RGB", (8, 6), "red").save(folder / "evaluation.png")
    return sorted(folder.iterdir())


def a_run(tracking, files, rows=(FIRST, SECOND)):
    with tracking:
        tracking.begin("experiment-1", CONFIG)
        for row in rows:
            tracking.row(row)
        if files:
            tracking.end(REPORT, files)
