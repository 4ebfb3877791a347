"""A small issuer of tokens (OpenID Connect), with keys of its own, on this machine."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.store import oidc

AUDIENCE = "the-coordinator"
RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGERS = rsa.generate_private_key(65537, 2048)


def jwk(key, ident: str | None, **more) -> dict:
    algorithm = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }
    form = next(form for kind, form in algorithm.items() if isinstance(key, kind))
    found = json.loads(form.to_jwk(key.public_key()))
    return found | ({"kid": ident} if ident else {}) | more


class Issuer:
    """The server. Tests change what it publishes, and count what it was asked."""

    def __init__(self) -> None:
        self.reset()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                status, headers, body = issuer.answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/realm"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def reset(self) -> None:
        self.keys: list[dict] = [jwk(RSA, "rsa"), jwk(CURVE, "curve"), jwk(ED, "ed")]
        self.about: dict = {}
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if path in self.answers:
            return self.answers[path]
        if path == f"/realm{oidc.WELL_KNOWN}":
            about = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"} | self.about
            return 200, {}, json.dumps(about).encode()
        return 200, {}, json.dumps({"keys": self.keys}).encode()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def token(self, key=RSA, algorithm="RS256", kid: str | None = "rsa", **claims) -> str:
        now = time.time()
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "exp": now + 600, "iat": now}
        said = {name: value for name, value in (said | claims).items() if value is not None}
        return jwt.encode(said, key, algorithm, {"kid": kid} if kid else {})
