"""The events of the audit log: an actor, an action on an experiment, and its time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AuditAction(StrEnum):
    """The kind of an audit event. Events of the same moment are listed in this order."""

    EXPERIMENT_CREATED = "experiment-created"
    INITIAL_MODEL_COMMITTED = "initial-model-committed"
    ENROLMENT_KEY_REPLACED = "enrolment-key-replaced"
    CLIENT_ENROLLED = "client-enrolled"
    TOKEN_REPLACED = "token-replaced"  # noqa: S105  (an action's name)  # nosec B105
    CLIENT_REVOKED = "client-revoked"
    ROUND_OPENED = "round-opened"
    ROUND_RETRIED = "round-retried"  # another attempt, with another cohort
    UPDATE_REFUSED = "update-refused"
    ROUND_CLOSED = "round-closed"
    EXPERIMENT_PAUSED = "experiment-paused"
    BUDGET_CHANGED = "budget-changed"
    EXPERIMENT_RESUMED = "experiment-resumed"
    EXPERIMENT_ENDED = "experiment-ended"
    EVALUATION_REPORTED = "evaluation-reported"
    EXPERIMENT_EXTENDED = "experiment-extended"  # it got more rounds


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """One act. `clients` are the slots that it affects; `cursor` is unique and orders the events.

    `who` is `admin`, `admin (previous key)`, another person's name, a client's id, or
    `coordinator`.
    """

    cursor: str
    at: float
    who: str
    what: AuditAction
    detail: str
    round: int | None
    clients: tuple[int, ...]
