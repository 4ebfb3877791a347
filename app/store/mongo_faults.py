"""Translates the errors of pymongo and MongoDB into the port's errors."""

from __future__ import annotations

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    InvalidName,
    OperationFailure,
    PyMongoError,
)

from serverless_fl.domain.errors import StoreDenied, StoreRefused, StoreUnavailable

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_DENIED = (
    *(13, 18, 33, 11),  # Unauthorized, AuthenticationFailed, unknown mechanism, unknown user
    *(59, 115, 238, 323),  # the server lacks a command
    8000,  # Atlas refuses the user, the plan or the quota
)
_REFUSED = (10334, 17280, 17419, 17420, 2, 22)  # the document or key is too large, or a value bad
DUPLICATE_KEY = 11000
FOREIGN = (PyMongoError, BSONError, OSError, UnicodeError, OverflowError)  # pymongo raises these


def translated(error: Exception) -> StoreUnavailable:
    """Give the port's error for an error of the driver."""
    kind, text = _class_of(error), _message(error)
    if kind is StoreUnavailable:
        return kind(f"The database did not answer: {text}.")
    return kind(f"The database refused: {text}.")


def is_duplicate(error: BulkWriteError) -> bool:
    """Say whether the database is sure that the key exists.

    If the write concern failed as well, the document with this key may still be rolled back.
    """
    details = error.details or {}
    codes = {fault.get("code") for fault in details.get("writeErrors", ())}
    return codes == {DUPLICATE_KEY} and not details.get("writeConcernErrors")


def _class_of(error: Exception) -> type[StoreUnavailable]:
    if isinstance(error, BSONError | InvalidName | UnicodeError | OverflowError):
        return StoreRefused
    if isinstance(error, ConfigurationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return StoreDenied
    codes = _codes(error)
    if codes & set(_DENIED):
        return StoreDenied
    if codes & set(_REFUSED):
        return StoreRefused
    return StoreUnavailable


def _codes(error: Exception) -> set[int | None]:
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        faults = (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ()))
        return {fault.get("code") for fault in faults}
    return {error.code} if isinstance(error, OperationFailure) else set()


def _message(error: Exception) -> str:
    if isinstance(error, BulkWriteError):  # its own message quotes the document
        details = error.details or {}
        faults = (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ()))
        return "; ".join(str(fault.get("errmsg", "")) for fault in faults)[:300]
    if isinstance(error, BSONError | UnicodeError):  # their messages quote the document or the key
        return type(error).__name__
    return str(error).split(", Timeout:")[0][:300].rstrip(".")
