"""Translates the errors of boto3 and S3 into the port's errors."""

from __future__ import annotations

from http import HTTPStatus

from botocore import exceptions as boto

from app.store.port import STORE_OF_WEIGHTS
from serverless_fl.domain.errors import StoreDenied, StoreMissing, StoreRefused, StoreUnavailable

FOREIGN = (boto.BotoCoreError, boto.ClientError, OSError, ValueError)  # boto3 raises these
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_MISSING = ("NoSuchBucket",)
_REFUSED = (
    *("EntityTooLarge", "EntityTooSmall", "KeyTooLongError"),
    *("InvalidArgument", "InvalidRequest", "InvalidURI", "MalformedXML"),
)
_PASSING_CODES = (
    *("RequestTimeout", "BadDigest", "IncompleteBody", "OperationAborted"),
    *(
        "InternalError",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
    ),
)
_PASSING_STATUS = (
    *(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS),
)
_PASSING = (
    *(boto.HTTPClientError, boto.ConnectionError, boto.ResponseStreamingError),
    *(boto.IncompleteReadError, boto.ChecksumError, boto.FlexibleChecksumError),
    *(boto.CredentialRetrievalError, boto.MetadataRetrievalError, boto.PaginationError),
)


def translated(error: Exception, bucket: str) -> StoreUnavailable:
    """Give the port's error for an error of boto3."""
    return _class_of(error)(f"The bucket {bucket} failed: {error}.", store=STORE_OF_WEIGHTS)


def _class_of(error: Exception) -> type[StoreUnavailable]:
    match error:
        case boto.ClientError():
            return _class_of_answer(error)
        case boto.ParamValidationError() | UnicodeError():
            return StoreRefused
        case boto.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return StoreDenied
        case _ if isinstance(error, _PASSING):
            return StoreUnavailable
        case _:  # credentials or a CA file are missing, the profile or the endpoint is wrong
            return StoreDenied


def _class_of_answer(error: boto.ClientError) -> type[StoreUnavailable]:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return of_code(str(error.response.get("Error", {}).get("Code", "")), status)


def of_code(code: str, status: int = 0) -> type[StoreUnavailable]:
    """Give the class of the port's error for an error code of S3 and its HTTP status."""
    if code in _MISSING:
        return StoreMissing
    if code in _REFUSED:
        return StoreRefused
    if code in _PASSING_CODES or status in _PASSING_STATUS or status >= 500:
        return StoreUnavailable
    return StoreDenied
