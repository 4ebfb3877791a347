"""What people may do. Clients are no people: they have tokens of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from serverless_fl.domain.errors import Forbidden
from serverless_fl.domain.experiment import Experiment


class Role(StrEnum):
    """What a person may do. A person may have several roles."""

    ADMIN = "admin"  # everything, in every experiment
    OWNER = "owner"  # creates experiments, and does everything in those that it has created
    READER = "reader"  # looks at every experiment and its models, and changes nothing


ROLES: Mapping[str, Role] = {role.value: role for role in Role}


@dataclass(frozen=True)
class Person:
    """Somebody whose key or token the coordinator knows. `name` stands in records and logs."""

    name: str
    roles: frozenset[Role]

    @property
    def is_admin(self) -> bool:
        return Role.ADMIN in self.roles

    def owns(self, experiment: Experiment) -> bool:
        """Say whether this person may do everything in an experiment."""
        return self.is_admin or (Role.OWNER in self.roles and experiment.created_by == self.name)

    def reads(self, experiment: Experiment) -> bool:
        """Say whether this person may see all that readers see of an experiment."""
        return Role.READER in self.roles or self.owns(experiment)

    def require_creator(self) -> None:
        """Raise Forbidden unless this person may create experiments."""
        if not self.roles & {Role.ADMIN, Role.OWNER}:
            raise role_missing(f"This needs the role admin or owner, {self._has}.")

    def require_owner(self, experiment: Experiment) -> None:
        """Raise Forbidden unless this person may do everything in the experiment."""
        if not self.owns(experiment):
            raise role_missing(
                f"This needs the role admin, or that of the experiment's owner, {self._has} and "
                "did not create it."
            )

    def require_reader(self, experiment: Experiment) -> None:
        """Raise Forbidden unless this person may see all that readers see of the experiment."""
        if not self.reads(experiment):
            raise role_missing(
                f"This needs the role admin or reader, or that of the experiment's owner, "
                f"{self._has} and did not create it."
            )

    @property
    def _has(self) -> str:
        word = "role" if len(self.roles) == 1 else "roles"
        return f"and {self.name} has the {word} {' and '.join(sorted(self.roles))}"


def role_missing(sentence: str) -> Forbidden:
    """The error for a person whose roles do not allow a request."""
    return Forbidden(sentence, code="role-missing")


def read_roles(text: str) -> frozenset[Role]:
    """Read roles such as `owner+reader`. Raises ValueError."""
    names = text.split("+")
    if unknown := [name for name in names if name not in ROLES]:
        raise ValueError(f"must have the roles {', '.join(ROLES)}, joined by +, not {unknown[0]!r}")
    return frozenset(ROLES[name] for name in names)
