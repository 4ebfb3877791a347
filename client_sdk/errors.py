"""Errors of the clients' side.

Each message is a sentence for a person: it says what is wrong and, where there is something to do,
what to do.

    ClientError                the coordinator, or the way to it
      CoordinatorUnreachable
      BadAnswer
      CorruptDownload
      RequestRefused           an error of the coordinator (RFC 9457)
        NotAuthorised
        NotThere
        StateConflict
        DirectRefused          an error of the blob store
    BadSettings                what somebody set: an address, a key, a variable
    UsageError                 the arguments of a command, or the files that they name
    DataError                  data, a model file, a picture
    TrainingFailed             the training on this machine
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all errors of the SDK's network side."""


class CoordinatorUnreachable(ClientError):
    """No answer arrives within the time allowed for retries, or none can ever arrive."""


class BadAnswer(ClientError):
    """The answer is not a coordinator's: it is too long, or a value in it is out of bounds."""


class CorruptDownload(ClientError):
    """Every attempt to download a model gave bytes of another digest than was announced."""


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
    """409: the request is well formed, but out of turn; `code` and `detail` name the turn."""


class DirectRefused(RequestRefused):
    """The blob store refused a signed URL: it expired, or the bytes are not those it was for."""


class BadSettings(ValueError):
    """An address, a key, a kernel or an environment variable is unusable."""


class UsageError(Exception):
    """The arguments of a command contradict each other, or do not fit the files that they name."""


class DataError(Exception):
    """A data set, a model file or a picture is unusable."""


class TrainingFailed(Exception):
    """A training process died on this machine."""
