"""Failed requests: what they say to people, and whether another try can help."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator

import httpx
from pydantic import ValidationError

from client_sdk import errors
from serverless_fl.wire.schema import Problem
from serverless_fl.wire.text import clean

_KINDS = {
    401: errors.NotAuthorised,
    403: errors.NotAuthorised,
    404: errors.NotThere,
    409: errors.StateConflict,
}
_TIMEOUTS: dict[type[httpx.TimeoutException], str] = {
    httpx.ConnectTimeout: "no connection in time",
    httpx.ReadTimeout: "nothing came in time",
    httpx.WriteTimeout: "it took nothing in time",
    httpx.PoolTimeout: "no connection was free in time",
}
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})
# Alerts (RFC 8446, section 6.2) about the certificate of this side, as OpenSSL names them.
_CERTIFICATE_ALERTS = frozenset(
    {
        *("TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA"),
        *("SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
        *("SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_REVOKED"),
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    }
)
_EXTRA = "Extra inputs are not permitted"  # in pydantic's words
_S3_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")


def reason(error: BaseException) -> str:
    """The innermost cause in words: `Connection refused`, not `All attempts failed`."""
    found = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        found = _TIMEOUTS.get(type(error), "it took too long")
    for cause in _causes(error):
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno:
            # A resolver's errors have negative numbers, which the system has no words for.
            found = os.strerror(cause.errno) if cause.errno > 0 else cause.strerror or found
    return clean(found, 300)


def permanent(error: httpx.RequestError) -> str | None:
    """In words, an error that no further try can mend; None for the others."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({clean(cause.verify_message, 200)}); where a "
                "private authority signed it, name that one's file in SSL_CERT_FILE"
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            return "nothing at that port speaks TLS: it may be an http:// address"
        if isinstance(cause, ssl.SSLError) and cause.reason in _CERTIFICATE_ALERTS:
            return (
                "it does not take this party's certificate, or wants one: give `join` "
                "--client-certificate and --client-key"
            )
    if isinstance(error, httpx.ProxyError) and re.match(r"4\d\d\b", str(error)):
        return f"the proxy refuses: {clean(str(error), 200)}"
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return f"it cannot be asked: {clean(str(error), 200)}"
    return None


def hint(error: httpx.RequestError, request: httpx.Request) -> str:
    """A guess at the cause, where nothing has ever answered at the address."""
    plain = request.url.scheme == "http"
    if plain and isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return "; it may be an https:// address"
    return ""


def refusal(response: httpx.Response) -> errors.RequestRefused:
    """The refusal of a coordinator, or of a proxy before it."""
    if response.is_redirect:
        return _redirect(response)
    kind = _KINDS.get(response.status_code, errors.RequestRefused)
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        text = clean(response.text.strip(), 200) or clean(response.reason_phrase, 200)
        return kind(response.status_code, "unknown", f"HTTP {response.status_code}: {text}")
    detail = _unknown_settings(problem) or problem.detail
    return kind(response.status_code, problem.code, detail)


def _unknown_settings(problem: Problem) -> str:
    """A sentence where a coordinator does not know what this package sends; else empty."""
    names = [
        clean(fault["where"].rpartition(".")[2], 60)
        for fault in problem.errors or []
        if fault.get("what") == _EXTRA and "where" in fault
    ]
    if not names or len(names) < len(problem.errors or []):
        return ""
    return (
        f"The coordinator does not know {', '.join(names)}, which this version of the package "
        "sends: it is older. Upgrade the coordinator, or use the package of its version."
    )


def _redirect(response: httpx.Response) -> errors.RequestRefused:
    """A redirect as a refusal: the owner of the key decides whether to send it there."""
    asked, target = response.request.url, response.headers["location"]
    with contextlib.suppress(httpx.InvalidURL):  # the message then has it as it is
        target = str(asked.join(target)).removesuffix(asked.raw_path.decode())
    here = str(asked).removesuffix(asked.raw_path.decode())
    return errors.RequestRefused(
        response.status_code,
        "redirect",
        f"{here} leads to {clean(target, 300)}: if you trust that one, give its address",
    )


def direct_refusal(response: httpx.Response) -> errors.DirectRefused:
    """A blob store's refusal, with S3's own code where there is one."""
    code = _S3_CODE.search(response.content)
    status = f"{response.status_code} ({code[1].decode()})" if code else str(response.status_code)
    return errors.DirectRefused(
        response.status_code, "direct", f"{response.request.url.host} answered {status}"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__
