"""What can go wrong on the clients' side: the network's errors as one tree, and bad data."""

from __future__ import annotations

# For what a command imports, before or after anything else of it is there.
MISSING = "The Python package {} is not installed: pip install 'serverless-fl[client]'."


class ClientError(Exception):
    """Base of all errors of the SDK's network side."""


class CoordinatorUnreachable(ClientError):
    """No answer within the time allowed for retries, or none that could ever come."""


class BadAnswer(ClientError):
    """The answer is not one of a coordinator: it is too long, or beyond what it may say."""


class RequestRefused(ClientError):
    """The coordinator answered with an error (RFC 9457). `code` is stable, for programs."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class NotAuthorised(RequestRefused):
    """401 or 403: the key or token is missing, wrong, or not for this."""


class NotThere(RequestRefused):
    """404: no such experiment, round or model."""


class StateConflict(RequestRefused):
    """409: well formed, but not now; `code` and `detail` say what the turn is."""


class DirectRefused(RequestRefused):
    """The blob store refused a signed URL: it has run out, or the bytes are not what was signed."""


class CorruptDownload(ClientError):
    """A model's bytes did not have the digest that was announced, however often it was tried."""


class BadSettings(ValueError):
    """An address, a key or a variable of the environment with which nothing can be reached."""


class TrainingFailed(Exception):
    """A training process died on this machine."""


class DataError(Exception):
    """A data set, a model file or a picture that cannot be used; the message says what to do."""
