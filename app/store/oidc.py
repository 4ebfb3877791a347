"""People's tokens from an OpenID Connect issuer, checked by the keys that the issuer publishes.

OpenID Connect Discovery 1.0 says where the keys are, and RFC 7517 how they are written. As RFC 8725
advises for tokens (RFC 7519), the algorithms follow from the key and never from the token, and
issuer, audience and times are checked.

Only the operator names an issuer, and nothing in a token leads anywhere (`jku` and `x5u` are not
read). Nobody but the log is told what the issuer answers. The keys are forgotten with the process.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import IssuerUnavailable, Unauthenticated

MOST_BYTES = 256 * 1024  # of the issuer's answer; a key takes 2 kB with its certificates
MOST_KEYS = 64
TOKEN_BYTES = 16 * 1024
SECONDS = 5.0  # for both answers of the issuer together
AGAIN_SECONDS = 60.0  # between two fetches, because any stranger can invent an unknown key
FAILED_SECONDS = 5.0  # the same while there are no keys at all
FRESH_SECONDS = 3600.0  # after which keys are fetched again, so that a withdrawn key ends
STALE_SECONDS = 86_400.0  # for which keys go on where the issuer does not answer
LEEWAY_SECONDS = 30.0  # between the issuer's clock and ours
RSA_BITS = 2048
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_EDWARDS = "EdDSA"
_ALGORITHMS = (*_RSA, *_CURVES.values(), _EDWARDS)
WELL_KNOWN = "/.well-known/openid-configuration"


@dataclass(frozen=True)
class _Key:
    public: Any  # of `cryptography`
    algorithms: tuple[str, ...]  # with which it may have signed


class OidcIssuer:
    """`app.store.port.TokenIssuer` over HTTPS. `audience` names this coordinator in tokens."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = issuer
        self.audience = audience
        self._seconds = seconds
        self._clock = clock  # the wall clock; other clocks may stand still in a frozen container
        self._keys: Mapping[str, _Key] = {}  # by their ids
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def claims(self, token: str) -> Mapping[str, Any]:
        """Check a token and give its claims. Raises Unauthenticated, IssuerUnavailable."""
        # Imported here: most coordinators have no issuer, and a cold start pays for each import.
        import jwt

        if len(token) > TOKEN_BYTES:
            raise Unauthenticated(f"The token is longer than {TOKEN_BYTES} characters.")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthenticated("This is neither a key nor a token (JWT).") from None
        if header.get("alg") not in _ALGORITHMS:
            raise Unauthenticated(f"The token's algorithm is none of {', '.join(_ALGORITHMS)}.")
        key = await self._key(header.get("kid"))
        try:
            return jwt.decode(
                token,
                key.public,
                algorithms=list(key.algorithms),
                audience=self.audience,
                issuer=self.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(_reason(error)) from None

    async def _key(self, ident: str | None) -> _Key:
        """Give the key of this id; for a token without one, the issuer's only key.

        Raises Unauthenticated, IssuerUnavailable.
        """
        found = self._find(ident)
        now = self._clock()
        old = now - self._fetched_at > FRESH_SECONDS
        if found is None or (old and not self._fetching.locked()):
            async with self._fetching:
                if self._fetched_at < now:  # nobody else has fetched them meanwhile
                    await self._fetch()
            found = self._find(ident)
        if found is None:
            raise Unauthenticated(
                "The token is signed by a key that its issuer does not publish, or it names none "
                "of several: log in again, and try in a minute if the issuer has a new key."
            )
        return found

    def _find(self, ident: str | None) -> _Key | None:
        if ident is not None:
            return self._keys.get(ident)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    async def _fetch(self) -> None:
        """Fetch the keys, if that is due again. If it fails, those that there are go on for a day.

        Raises IssuerUnavailable.
        """
        now = self._clock()
        if now - self._tried_at >= (AGAIN_SECONDS if self._keys else FAILED_SECONDS):
            self._tried_at = now
            try:
                async with asyncio.timeout(self._seconds):
                    self._keys = await self._published()
                self._fetched_at = now
            except (OSError, ValueError) as error:  # a TimeoutError is an OSError
                log_event("no keys of the issuer", WARNING, issuer=self.issuer, cause=str(error))
        if not self._keys or now - self._fetched_at > STALE_SECONDS:
            raise IssuerUnavailable(
                "The issuer of tokens does not give out its keys: try again, or use a key of "
                "FL_ADMIN_KEY or FL_KEYS. The cause is logged."
            )

    async def _published(self) -> Mapping[str, _Key]:
        """Fetch the issuer's description and its keys. Raises OSError, ValueError."""
        import httpx

        try:
            async with httpx.AsyncClient(timeout=self._seconds, follow_redirects=False) as http:
                about = await _get(http, self.issuer.rstrip("/") + WELL_KNOWN)
                if about.get("issuer") != self.issuer:
                    raise ValueError("its description names another issuer")
                address = about.get("jwks_uri")
                safe = "https://" if self.issuer.startswith("https://") else "http"
                if not isinstance(address, str) or not address.startswith(safe):
                    raise ValueError("its description names no safe address of keys")
                found = (await _get(http, address)).get("keys")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OSError(type(error).__name__) from error
        if not isinstance(found, list) or len(found) > MOST_KEYS:
            raise ValueError(f"its keys are no list of at most {MOST_KEYS}")
        keys = {
            str(jwk.get("kid", f"without an id, {place}")): key
            for place, jwk in enumerate(found)
            if (key := _key_of(jwk))
        }
        if not keys:
            raise ValueError("none of its keys can be used")
        return keys


async def _get(http: Any, address: str) -> dict[str, Any]:
    """Read a JSON object of at most `MOST_BYTES`. Raises ValueError, and httpx's errors."""
    async with http.stream("GET", address, headers={"Accept-Encoding": "identity"}) as response:
        if response.status_code != 200:
            raise ValueError(f"it answers {response.status_code}")
        data = b""
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > MOST_BYTES:
                raise ValueError(f"its answer has more than {MOST_BYTES} bytes")
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("its answer is no JSON object")
    return found


def _key_of(jwk: Any) -> _Key | None:
    """Read a key for signatures (RFC 7517); None for one of another kind."""
    import jwt

    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    algorithms = _algorithms(jwk)
    if not algorithms:
        return None
    try:
        public = jwt.PyJWK(jwk, algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if hasattr(public, "private_bytes") or (jwk["kty"] == "RSA" and public.key_size < RSA_BITS):
        return None
    return _Key(public, algorithms)


def _algorithms(jwk: dict[str, Any]) -> tuple[str, ...]:
    """Give the algorithms with which a key may have signed; never one with a shared secret."""
    kind, curve, own = jwk.get("kty"), jwk.get("crv"), jwk.get("alg")
    if kind == "RSA":
        known: tuple[str, ...] = _RSA
    elif kind == "EC" and curve in _CURVES:
        known = (_CURVES[curve],)
    elif kind == "OKP" and curve == "Ed25519":
        known = (_EDWARDS,)
    else:
        known = ()
    return known if own is None else tuple(name for name in known if name == own)


def _reason(error: Exception) -> str:
    """Say in a sentence why a token is refused."""
    import jwt

    for kind, sentence in (
        (jwt.ExpiredSignatureError, "The token has expired: log in again."),
        (jwt.ImmatureSignatureError, "The token is not valid yet: is a clock wrong?"),
        (jwt.InvalidIssuerError, "The token is of another issuer (FL_OIDC_ISSUER)."),
        (jwt.InvalidAudienceError, "The token is for another audience (FL_OIDC_AUDIENCE)."),
        (jwt.InvalidAlgorithmError, "The token's algorithm is not its key's."),
        (jwt.InvalidSignatureError, "The token's signature is not its issuer's."),
    ):
        if isinstance(error, kind):
            return sentence
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"The token lacks the claim {error.claim}."
    return "The token cannot be read."
