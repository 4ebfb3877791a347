"""A setting that is a choice of an alternative, which has settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serverless_fl.domain.errors import InvalidConfig


@dataclass(frozen=True)
class Choice:
    """The name of the chosen alternative, and its settings that differ from their defaults."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, plain: Any) -> Choice:
        """Read the form of documents and bodies, see `plain`. Raises InvalidConfig."""
        if isinstance(plain, str):
            return cls(plain)
        if not isinstance(plain, Mapping) or not isinstance(plain.get("name"), str):
            raise InvalidConfig(f"A choice is a name, or an object with a name, not {plain!r:.80}.")
        return cls(plain["name"], {k: v for k, v in plain.items() if k != "name"})

    @property
    def plain(self) -> str | dict[str, Any]:
        """The name alone if all settings are at their defaults, else an object with the name.

        >>> Choice("fedavg").plain
        'fedavg'
        >>> Choice("fedadam", {"beta1": 0.5}).plain
        {'name': 'fedadam', 'beta1': 0.5}
        """
        return {"name": self.name, **self.settings} if self.settings else self.name
