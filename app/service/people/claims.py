"""What the claims of an issuer's token say of a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.service.people.roles import Person, Role, read_roles, role_missing
from serverless_fl.domain.errors import Unauthenticated

NAME_CHARACTERS = 200  # at most, of a name in a token


@dataclass(frozen=True)
class ClaimNames:
    """The claims of a token that name a person and its roles.

    `values` gives the roles of a claim's values; by default a role's own name stands for it.
    """

    name: str = "sub"
    roles: str = "roles"
    values: Mapping[str, frozenset[Role]] = field(
        default_factory=lambda: {role.value: frozenset({role}) for role in Role}
    )

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Give the holder of a token. Raises Unauthenticated, Forbidden."""
        name = _claim(claims, self.name)
        if not isinstance(name, str) or not name.isprintable() or not name.strip():
            raise Unauthenticated(f"The token has no name in its claim {self.name}.")
        if len(name) > NAME_CHARACTERS:  # a shortened one could be somebody else's
            raise Unauthenticated(
                f"The name in the claim {self.name} has more than {NAME_CHARACTERS} characters."
            )
        said = _claim(claims, self.roles)
        words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        known = [
            self.values[word] for word in words if isinstance(word, str) and word in self.values
        ]
        # The prefix tells it from a name of FL_KEYS, which a stranger may bear at the issuer, too.
        found = Person(f"oidc:{name}", frozenset().union(*known))
        if not found.roles:
            raise role_missing(
                f"The token gives no role: its claim {self.roles} must have one of "
                f"{', '.join(sorted(self.values))}."
            )
        return found


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Give a claim by its name, or by a path such as `realm_access.roles`; None if it is absent."""
    if path in claims:  # names of claims that are addresses have dots, too
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def read_claim_roles(entries: Iterable[str]) -> Mapping[str, frozenset[Role]]:
    """Read entries such as `fl-team=owner+reader`. Raises ValueError."""
    found = {}
    for entry in entries:
        value, sign, roles = entry.rpartition("=")
        if not sign or not value.strip():
            raise ValueError("each must be VALUE=ROLES, such as fl-team=owner+reader")
        found[value.strip()] = read_roles(roles.strip())
    return found
