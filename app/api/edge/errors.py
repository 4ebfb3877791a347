"""The one table from error to HTTP status, and `application/problem+json` bodies (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.telemetry import ids
from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain import errors
from serverless_fl.wire.schema import Problem

# The status of an error is that of the first class in its ancestry (`__mro__`) in this table.
STATUS: Mapping[type[errors.CoordinatorError], int] = {
    errors.InvalidConfig: 422,
    errors.BadWeights: 422,
    errors.BadEnrolment: 422,
    errors.DigestMismatch: 422,
    errors.NotFound: 404,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.RangeNotSatisfiable: 416,
    errors.Busy: 503,
    errors.IssuerUnavailable: 503,
    errors.StoreUnavailable: 503,
}
RETRY_AFTER_SECONDS = 2
RETRY_LASTING_SECONDS = 30  # for a fault that remains until an operator acts


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare a route's error responses for the OpenAPI document."""
    declared: dict[int | str, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "model": Problem} for status in statuses
    }
    for status in declared.keys() & {429, 503}:
        declared[status]["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before the next try",
                "schema": {"type": "integer"},
            }
        }
    return declared


def declare_media_type(document: dict[str, Any]) -> dict[str, Any]:
    """Declare errors as `application/problem+json`; FastAPI declares plain JSON for them."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400" and "application/json" in response.get("content", {}):
                    content = response["content"].pop("application/json")
                    response["content"]["application/problem+json"] = content
    return document


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
) -> JSONResponse:
    ids.note(code=code)
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=ids.request_id(),
        errors=errors,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def install(app: FastAPI) -> None:
    """Give the application its error handlers."""
    app.add_exception_handler(errors.CoordinatorError, _coordinator_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    build = app.openapi
    app.openapi = lambda: declare_media_type(build())  # type: ignore[method-assign]


def _coordinator_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.CoordinatorError)  # noqa: S101
    status = next(STATUS[c] for c in type(error).__mro__ if c in STATUS)
    detail, headers = error.message, dict[str, str]()
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, errors.StoreUnavailable):
        # The driver's message names hosts and files, so it goes to the log and not to the caller.
        log_event("store unavailable", WARNING, code=error.code, cause=error.message)
        detail = error.advice
        if error.lasting:
            headers["Retry-After"] = str(RETRY_LASTING_SECONDS)
    if isinstance(error, errors.RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    return problem(status, error.code, detail, headers=headers)


def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    faults = [
        {"where": ".".join(str(p) for p in e["loc"])[:200], "what": str(e["msg"])[:300]}
        for e in error.errors()[:20]
    ]
    first = f"{faults[0]['where']}: {faults[0]['what']}" if faults else "see errors"
    return problem(422, "invalid-request", f"The request is malformed: {first}.", errors=faults)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == HTTPStatus.BAD_REQUEST:  # FastAPI raises it for malformed JSON
        return problem(422, "invalid-request", "The body is not valid JSON.")
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return problem(413, errors.TooLarge.code, str(error.detail))
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    detail = f"{request.method} {request.scope['path'][:200]}: {error.detail}."
    return problem(error.status_code, code, detail, headers=error.headers)
