"""Recognises people by the admin key, by keys of their own, and by an issuer's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from app.service.clients.credentials import AdminKeys, matches
from app.service.people.claims import ClaimNames
from app.service.people.keys import PersonKey
from app.service.people.roles import Person, Role
from app.store.port import TokenIssuer

DOTS = 2  # of a token (RFC 7519); no key and no client's token has two


class People:
    """Recognises people by their keys and by an issuer's tokens."""

    def __init__(
        self,
        admin_keys: AdminKeys,
        keys: Sequence[PersonKey] = (),
        issuer: TokenIssuer | None = None,
        claims: ClaimNames | None = None,
    ) -> None:
        self._admin_keys = admin_keys
        self._keys = tuple(keys)
        self._issuer = issuer
        self._claims = claims or ClaimNames()

    async def find(self, secret: str) -> Person | None:
        """Find the person whose key or token this is; None if nobody has it.

        Raises Unauthenticated, Forbidden and IssuerUnavailable for tokens of the issuer.
        """
        admin = self._admin_keys.caller(secret)
        if admin is not None:
            return Person(admin, frozenset({Role.ADMIN}))
        found = None
        for key in self._keys:  # all of them, so that the time tells nothing
            if matches(secret, key.sha256):
                found = key.person
        if found is None and self._issuer is not None and secret.count(".") == DOTS:
            return self._claims.person(await self._issuer.claims(secret))
        return found
