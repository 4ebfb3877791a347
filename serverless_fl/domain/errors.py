"""Everything that can be refused, as one tree. The API maps each class to an HTTP status.

Every error carries a stable `code` for programs and a sentence that says what to do for people.
"""

from __future__ import annotations


class CoordinatorError(Exception):
    """Base of all errors that a caller may see. `code` is stable; the message is for people."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidConfig(CoordinatorError):
    """The experiment's settings contradict one another."""

    code = "invalid-config"


class NotFound(CoordinatorError):
    """There is no such experiment, round, client or model version."""

    code = "not-found"


class Unauthenticated(CoordinatorError):
    """No key or token was sent, or it is not one of ours."""

    code = "unauthenticated"


class Revoked(Unauthenticated):
    """The token was a client's until an admin revoked it."""

    code = "revoked"


class Forbidden(CoordinatorError):
    """The key or token is good, but not for this."""

    code = "forbidden"


class Conflict(CoordinatorError):
    """The request is well formed, but the state does not admit it now."""

    code = "conflict"


class ExperimentFull(Conflict):
    """Every slot is taken."""

    code = "experiment-full"


class OutOfTurn(Conflict):
    """The round, the cohort or the state is another one; the message says which."""

    code = "out-of-turn"


class BudgetReached(Conflict):
    """What the experiment would cost by estimate is not below its budget."""

    code = "budget-reached"


class AlreadyUploaded(Conflict):
    """Another update of this client stands for this round."""

    code = "already-uploaded"


class PartsMissing(Conflict):
    """The commit names parts that have not been uploaded."""

    code = "parts-missing"


class BadWeights(CoordinatorError):
    """The bytes are not the weights that the experiment's model has. `code` says in what way."""

    code = "malformed-weights"


class DigestMismatch(CoordinatorError):
    """The bytes that arrived are not the bytes that were announced. Send them again."""

    code = "digest-mismatch"


class TooLarge(CoordinatorError):
    """The body is larger than the coordinator takes."""

    code = "too-large"


class AnswerTooLarge(TooLarge):
    """The answer would be larger than the platform carries. Ask for it in ranges."""

    code = "answer-too-large"


class RangeNotSatisfiable(CoordinatorError):
    """The byte range lies outside of the model (RFC 9110, section 14)."""

    code = "range-not-satisfiable"

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class Busy(CoordinatorError):
    """This process has as much to do as it takes. Try again, or do as the message says."""

    code = "busy"


class StoreUnavailable(CoordinatorError):
    """A store (the database, or the bucket of weights) did not answer. Nothing was lost; try again.

    The message is for the log, as it may name hosts and files; callers are told `advice`. `store`
    says which store it was. `lasting`: the fault stays until the operator does something.
    """

    code = "store-unavailable"
    lasting = False
    _advice = "{} did not answer. Nothing is lost: try again; the cause is logged."

    def __init__(self, message: str, *, store: str = "The database") -> None:
        super().__init__(message)
        self.store = store

    @property
    def advice(self) -> str:
        return self._advice.format(self.store)


class StoreDenied(StoreUnavailable):
    """The store cannot be used as it is: wrong rights, keys, region or clock, or it is broken."""

    code = "store-denied"
    lasting = True
    _advice = "{} cannot be used until the coordinator's operator has acted; the cause is logged."


class StoreMissing(StoreUnavailable):
    """There is no such bucket or file: it was deleted, or the settings name another one."""

    code = "store-missing"
    lasting = True
    _advice = "{} is not there: the coordinator's operator must act; the cause is logged."


class WrongStore(StoreUnavailable):
    """The blob store answers, but it is not the one that holds the experiments' weights."""

    code = "wrong-store"
    lasting = True
    _advice = (
        "{} is another one than the experiments were made with. Nothing is lost, but the "
        "coordinator's operator must act; the cause is logged."
    )


class StoreRefused(StoreUnavailable):
    """The store does not take this one document, blob or key: it is too large or malformed."""

    code = "store-refused"
    lasting = True
    _advice = "{} does not take what was to be written; the cause is logged."


class TickFailed(CoordinatorError):
    """A tick could not do all that was due; the rest is done, and the next tick tries again."""

    code = "tick-failed"
