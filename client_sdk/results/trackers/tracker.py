"""What a tracker gets, and when."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar


class Tracker(ABC):
    """One tool. `begin` comes first, `close` last, also after an interruption.

    It is made with the run's folder. `name` is for `--track`, and is the name of the package that
    the tool needs.
    """

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, out: Path) -> None: ...

    @abstractmethod
    def begin(self, experiment_id: str, config: dict[str, Any]) -> None:
        """Take the experiment's id and its settings."""

    @abstractmethod
    def metrics(self, values: dict[str, float], step: int) -> None:
        """Take figures of a round, by name."""

    @abstractmethod
    def end(self, report: dict[str, Any], files: Sequence[Path]) -> None:
        """Take the report and the files of the run."""

    @abstractmethod
    def close(self) -> None:
        """Give up what is open."""
