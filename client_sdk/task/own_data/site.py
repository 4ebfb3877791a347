"""The seam between a party's own files and an experiment: read, declare, and train on.

The experiment's initial model describes what every party's data must look like. A reader makes a
`Site` of a file or folder and that description; a new kind of file is one reader and one line of
`SITES` (see `client_sdk.task.own_data.reading`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from client_sdk.data.data import Data
from client_sdk.task.task import Task, fingerprint
from serverless_fl.domain.agreement import MAX_FACT, MAX_FACT_NAME, MAX_FACTS, Agreement, ColumnSums
from serverless_fl.domain.task_name import FINGERPRINT, TASK
from serverless_fl.wire.agreement import ScaleView
from serverless_fl.wire.text import clean


@dataclass(frozen=True)
class Declaration:
    """What a party declares when it enrols: see `serverless_fl.wire.schema.Subscribe`."""

    examples: int
    facts: Mapping[str, str]
    sums: Sequence[ColumnSums] = ()


class Site(Protocol):
    """A party's own data. `notes` says in sentences what the reader left out or guessed."""

    notes: tuple[str, ...]

    def declaration(self) -> Declaration:
        """The number of examples, the facts about them, and sums for the normalisation."""
        ...

    def label_counts(self) -> Mapping[str, int]:
        """How many examples have each class. Raises DataError where there are no classes."""
        ...

    def ready(self, scales: Sequence[ScaleView]) -> tuple[Task, Data, Sequence[str]]:
        """The task, the data as it takes them, and notes; `scales` are those that the sums fixed.

        Raises DataError.
        """
        ...


def facts_of_task(task: Task) -> dict[str, str]:
    """The facts that each party with data of its own declares of its task."""
    return {TASK: task.name, FINGERPRINT: fingerprint(task)}


def facts_of_classes(classes: Sequence[str]) -> dict[str, str]:
    """One fact for each class, so that a refusal names the class that differs."""
    return {f"class {number}": name for number, name in enumerate(classes)}


def bounded(agreement: Agreement) -> Agreement:
    """The terms within what a coordinator takes: many facts become one with their digest."""
    facts = {
        shortened(name, MAX_FACT_NAME): shortened(fact, MAX_FACT)
        for name, fact in agreement.facts.items()
    }
    if len(facts) > MAX_FACTS:
        text = "\n".join(f"{name}: {fact}" for name, fact in facts.items())
        digest = hashlib.sha256(text.encode()).hexdigest()
        facts = {"classes and columns": f"{len(facts)} facts, SHA-256 {digest}"}
    return Agreement(facts, agreement.normalise)


def shortened(text: str, most: int) -> str:
    """The text in one line; the end of a long one becomes its digest."""
    text = clean(text, 10**6)
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[: most - 30]}… SHA-256 {digest}"
