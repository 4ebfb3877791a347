"""The errors of the coordinator, as one tree. The API maps each class to an HTTP status.

Every error carries a stable `code` for programs, and a sentence that tells people how to go on.
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


class BadEnrolment(CoordinatorError):
    """A party declares what the experiment does not take. `code` names the fault."""

    code = "bad-enrolment"


class NotFound(CoordinatorError):
    """There is no such experiment, round, client or model version."""

    code = "not-found"


class Unauthenticated(CoordinatorError):
    """The request has no key or token, or the coordinator does not know it."""

    code = "unauthenticated"


class NotAToken(Unauthenticated):
    """The token is none of a client of the experiment, perhaps no longer."""

    def __init__(self) -> None:
        super().__init__("This is not the token of a client of this experiment.")


class Revoked(Unauthenticated):
    """An admin revoked the client that the token belongs to."""

    code = "revoked"


class Forbidden(CoordinatorError):
    """The key or token is valid, but does not allow this request."""

    code = "forbidden"


class Conflict(CoordinatorError):
    """The request is well formed, but the present state does not allow it."""

    code = "conflict"


class ExperimentFull(Conflict):
    """Every slot of the experiment has a client."""

    code = "experiment-full"


class OutOfTurn(Conflict):
    """The round, the cohort or the state is another one; the message names it."""

    code = "out-of-turn"


class BudgetReached(Conflict):
    """The estimated cost of the experiment has reached its budget."""

    code = "budget-reached"


class AlreadyUploaded(Conflict):
    """The coordinator has accepted another update of this client for this round."""

    code = "already-uploaded"


class HelperRefused(Conflict):
    """The helper does not open this sum, whoever asks again; the message is its own sentence."""

    code = "helper-refused"


class PartsMissing(Conflict):
    """The commit names parts that the client has not uploaded."""

    code = "parts-missing"


class BadWeights(CoordinatorError):
    """The bytes do not hold weights of the experiment's model. `code` names the fault."""

    code = "malformed-weights"


class DigestMismatch(CoordinatorError):
    """The bytes that arrived do not have the announced digest. The client sends them again."""

    code = "digest-mismatch"


class TooLarge(CoordinatorError):
    """The request's body is larger than the coordinator allows."""

    code = "too-large"


class AnswerTooLarge(TooLarge):
    """The answer is larger than the platform allows. The client asks for ranges instead."""

    code = "answer-too-large"


class RangeNotSatisfiable(CoordinatorError):
    """The byte range lies outside of the model (RFC 9110, section 14)."""

    code = "range-not-satisfiable"

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class Busy(CoordinatorError):
    """This process has as many requests as it takes at once. The message says how to go on."""

    code = "busy"


class IssuerUnavailable(CoordinatorError):
    """The issuer of people's tokens did not give out its keys. A caller may try again."""

    code = "issuer-unavailable"


class StoreUnavailable(CoordinatorError):
    """A store (the database, or the bucket of weights) did not answer. A caller may try again.

    The message may name hosts and files, so it goes to the log only; callers read `advice`.
    `store` names the store. `lasting`: the fault stays until the operator mends it.
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


class HelperUnavailable(StoreUnavailable):
    """The helper, which knows the masks of updates, did not answer. A caller may try again."""

    code = "helper-unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, store="The helper")


class StoreDenied(StoreUnavailable):
    """The store refuses the coordinator: wrong rights, keys, region or clock, or it is damaged."""

    code = "store-denied"
    lasting = True
    _advice = "{} cannot be used until the coordinator's operator has acted; the cause is logged."


class StoreMissing(StoreUnavailable):
    """The bucket or file does not exist: somebody deleted it, or the settings name another one."""

    code = "store-missing"
    lasting = True
    _advice = "{} is not there: the coordinator's operator must act; the cause is logged."


class WrongStore(StoreUnavailable):
    """The blob store answers, but it does not hold the weights of this database's experiments."""

    code = "wrong-store"
    lasting = True
    _advice = (
        "{} is not the one that holds these experiments. Nothing is lost, but the coordinator's "
        "operator must act; the cause is logged."
    )


class StoreRefused(StoreUnavailable):
    """The store refuses one document, blob or key, because it is too large or malformed."""

    code = "store-refused"
    lasting = True
    _advice = "{} refused to store a document or a file; the cause is logged."


class TickFailed(CoordinatorError):
    """A tick failed for some experiments. It served the others, and the next tick tries again."""

    code = "tick-failed"
