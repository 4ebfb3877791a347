"""The task of an experiment, as words: its name, and a fingerprint that parties compare.

The initial model's file carries them in its metadata. The coordinator keeps them and knows no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TASK, FINGERPRINT = "task", "fingerprint"  # the keys of the metadata
MAX_NAME, MAX_FINGERPRINT = 200, 64  # characters that the coordinator keeps


@dataclass(frozen=True, kw_only=True)
class TaskName:
    """A task's name and fingerprint; a file of an earlier version may have no fingerprint."""

    name: str
    fingerprint: str = ""


def task_named(metadata: Mapping[str, str]) -> TaskName | None:
    """Read the task in a model file's metadata; None if the file names none."""
    if TASK not in metadata:
        return None
    return TaskName(
        name=metadata[TASK][:MAX_NAME], fingerprint=metadata.get(FINGERPRINT, "")[:MAX_FINGERPRINT]
    )
