"""What a tracker gets, and when."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from client_sdk import hints
from client_sdk.errors import UsageError


class Tracker(ABC):
    """One tool. `begin` comes first, `close` last, also after an interruption.

    It is made with the run's folder. `name` is for `--track`, and is the name of the package that
    the tool needs. `environment` has the variables that must be set before that package is
    imported, unless the user has set them.
    """

    name: ClassVar[str]
    environment: ClassVar[dict[str, str]] = {}

    @classmethod
    def require(cls) -> None:
        """Raises UsageError where the tool cannot record. It is called before a run starts."""
        for variable, value in cls.environment.items():
            os.environ.setdefault(variable, value)
        try:
            importlib.import_module(cls.name)
        except ImportError as error:
            how = hints.install(f"serverless-fl[{cls.name}]")
            raise UsageError(f"--track {cls.name} needs another package: {how}") from error

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
