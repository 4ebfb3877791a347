"""A run of a study as a job for a process.

It stands here because a process that is started anew does not import a package's `__main__`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import Any

import torch

from app.telemetry import logs
from benchmarks.algorithms.simulated import Case, run
from benchmarks.algorithms.studies import STUDIES


def one(name: str, full: bool, dataset: str, data_dir: Path, case: Case, seed: int) -> Any:
    """One run, with the processor's seconds that it took: a job for a process."""
    torch.set_num_threads(1)
    logs.configure("json", "error")
    study = STUDIES[name]
    material = study.material(study.long if full else study.short, dataset, data_dir)
    material.task.prepare()
    before = time.process_time()
    found = run(case, seed, material)
    return {**key(case, seed), **found, "processor_seconds": time.process_time() - before}


def key(case: Case, seed: int) -> dict[str, Any]:
    """What a run is known by in the file: the digest is of all that the case says."""
    digest = hashlib.sha256(repr(dataclasses.astuple(case)).encode()).hexdigest()[:12]
    return {"row": case.row, "column": case.column, "seed": seed, "case": digest}
