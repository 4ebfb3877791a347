"""Certificates of clients, as a TLS proxy or a gateway in front of the coordinator passes them on.

The proxy has checked that the certificate is of an authority that the operator trusts, that it is
valid, and that the client has its key. The coordinator reads whose it is. Headers count only from a
proxy of FL_TRUSTED_PROXIES, by the address at the other end of the connection. A request of anybody
else that has such a header is refused, so that a forgotten setting shows at once.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote

from starlette.types import Scope

from serverless_fl.domain.errors import Forbidden
from serverless_fl.domain.records import ClientCertificate

# What an entry tells the application of a connection, in the scope's `state`.
PEER = "peer"  # the address at its other end, whatever headers say
PLATFORM = "platform_proxy"  # True: the platform's load balancer wrote the headers
PASSED = "passed_certificate"  # the certificate (PEM) that the platform's gateway passes on

Headers = Mapping[bytes, bytes]
NAME_CHARACTERS = 500  # of a subject or an issuer


def _of_nginx(headers: Headers) -> bytes | None:
    """`$ssl_client_escaped_cert` and `$ssl_client_verify`."""
    found = headers.get(b"x-ssl-client-cert")
    if not found:
        return None
    if headers.get(b"x-ssl-client-verify") != b"SUCCESS":
        raise _bad("the header X-SSL-Client-Verify does not say SUCCESS")
    return unquote(found.decode("latin-1")).encode("latin-1", "replace")


# What a proxy sends for a client without a certificate; Caddy leaves its placeholder as it is.
_NONE = (b"", b"::", b":{http.request.tls.client.certificate_der_base64}:")


def _of_client_cert(headers: Headers) -> bytes | None:
    """`Client-Cert` (RFC 9440): DER in base64, between colons."""
    found = headers.get(b"client-cert", b"").strip()
    if found in _NONE:
        return None
    if len(found) < 2 or not (found.startswith(b":") and found.endswith(b":")):
        raise _bad("the header Client-Cert is no byte sequence between colons")
    try:
        return base64.b64decode(found[1:-1], validate=True)
    except ValueError:
        raise _bad("the header Client-Cert is not in base64") from None


def _of_alb(headers: Headers) -> bytes | None:
    """`X-Amzn-Mtls-Clientcert-Leaf`, which AWS's load balancer sends in its mode `verify` alone."""
    found = headers.get(b"x-amzn-mtls-clientcert-leaf")
    return unquote(found.decode("latin-1")).encode("latin-1", "replace") if found else None


Form = Callable[[Headers], bytes | None]
FORMS: Mapping[str, tuple[Form, tuple[bytes, ...]]] = {
    "nginx": (_of_nginx, (b"x-ssl-client-cert", b"x-ssl-client-verify")),
    "client-cert": (_of_client_cert, (b"client-cert",)),
    "alb": (_of_alb, (b"x-amzn-mtls-clientcert-leaf",)),
}
HEADERS = frozenset(name for _, names in FORMS.values() for name in names)


class ClientCertificates:
    """Reads the certificate of a request. `form`: None where the coordinator reads none.

    `required`: clients without a certificate are refused. `proxies` are addresses or networks.
    """

    def __init__(self, form: str | None, required: bool = False, proxies: Sequence[str] = ()):
        self.form = form
        self.required = required
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]

    def of(self, scope: Scope) -> ClientCertificate | None:
        """Give the certificate that the caller has shown to the proxy; None if there is none.

        Raises Forbidden for a header that no trusted proxy has sent, for one that is no
        certificate, and where there is none although clients need one.
        """
        found = None
        if self.form == "api-gateway":
            passed = scope["state"].get(PASSED)
            found = passed.encode("latin-1", "replace") if passed else None
        elif self.form is not None:
            found = self._of_headers(scope, *FORMS[self.form])
        if found is None:
            if self.required:
                raise certificate_missing()
            return None
        return _read(found)

    def _of_headers(self, scope: Scope, form: Form, names: Sequence[bytes]) -> bytes | None:
        headers = dict(scope["headers"])  # the guard refuses a request with two of them
        if not any(name in headers for name in names):
            return None
        if not (scope["state"].get(PLATFORM) or self._is_proxy(scope["state"].get(PEER))):
            raise Forbidden(
                "The request has the header of a client certificate, but does not come from a "
                "proxy that the coordinator trusts: name the proxy in FL_TRUSTED_PROXIES, and "
                "start the coordinator with `python -m app`.",
                code="proxy-not-trusted",
            )
        return form(headers)

    def _is_proxy(self, peer: str | None) -> bool:
        try:
            address = ipaddress.ip_address(peer or "")
        except ValueError:
            return False
        return any(address in network for network in self._proxies)


@lru_cache(4096)
def _read(data: bytes) -> ClientCertificate:
    """Read a certificate (RFC 5280) in DER or PEM. Raises Forbidden."""
    from cryptography import x509  # few coordinators read certificates

    pem = data.lstrip().startswith(b"-----BEGIN")
    try:
        found = (x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate)(data)
        names = [found.subject.rfc4514_string(), found.issuer.rfc4514_string()]
    except ValueError:
        raise _bad("it cannot be read") from None
    if not names[0]:
        raise _bad("it has no subject, by which the coordinator knows a client")
    if not all(len(name) <= NAME_CHARACTERS and name.isprintable() for name in names):
        raise _bad(f"its names are longer than {NAME_CHARACTERS} characters, or not printable")
    return ClientCertificate(*names)


def _bad(reason: str) -> Forbidden:
    return Forbidden(
        f"The client certificate cannot be used: {reason}.", code="certificate-refused"
    )


def certificate_missing() -> Forbidden:
    return Forbidden(
        "Clients need a certificate here, and the proxy passes none on: give `join` "
        "--client-certificate and --client-key.",
        code="certificate-missing",
    )
