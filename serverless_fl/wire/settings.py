"""The settings of an experiment as data, read from a pydantic model's JSON schema.

The command's flags, TOML files and docs/settings.md are made from this data. The page reads the
same schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

GROUP_KEY = "x-group"
Group = Literal[
    "data", "training", "strategy", "schedule", "privacy", "encoding", "keeping", "stopping"
]
GROUPS: tuple[Group, ...] = get_args(Group)  # in the order of help texts and documents


@dataclass(frozen=True)
class Setting:
    """One setting. `kind` is its JSON type.

    `minimum` and `maximum` belong to its range, `above` and `below` do not; None: no bound.
    """

    name: str
    group: str
    kind: str
    description: str
    required: bool
    default: Any
    nullable: bool
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None

    @property
    def bounds(self) -> str:
        """The range of its values for people, such as `1 to 100,000`; empty without bounds."""
        if self.choices:
            return ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{number_text(self.minimum)} to {number_text(self.maximum)}"
        limits = (
            ("at least", self.minimum),
            ("above", self.above),
            ("at most", self.maximum),
            ("below", self.below),
        )
        return ", ".join(f"{word} {number_text(n)}" for word, n in limits if n is not None)

    @property
    def rule(self) -> str:
        """The rule for a value, as the end of a sentence: `a whole number, 1 to 100,000`."""
        kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
        kind = "one of" if self.choices else kinds.get(self.kind, "text")
        separator = " " if self.choices else ", "
        return f"{kind}{separator}{self.bounds}" if self.bounds else kind

    @property
    def default_text(self) -> str:
        """The default for people; empty if there is none."""
        return "" if self.required or self.default is None else number_text(self.default)


def number_text(value: Any) -> str:
    """Write a number for people: `100,000`, `0.05`. Write other values as in JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{int(value):,}" if value.is_integer() else repr(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


@cache
def settings_of(model: type[BaseModel]) -> Mapping[str, Setting]:
    """Give the settings that a pydantic model declares, by name, in its order.

    To make a model's JSON schema takes milliseconds, so it is made once.
    """
    return settings_in(model.model_json_schema())


def settings_in(schema: Mapping[str, Any]) -> dict[str, Setting]:
    """Give the settings in a JSON schema, by name, in its order."""
    required = set(schema.get("required", ()))
    return {
        name: _setting(name, found, name in required)
        for name, found in schema["properties"].items()
    }


def _setting(name: str, found: Mapping[str, Any], required: bool) -> Setting:
    alternatives = found.get("anyOf", [found])
    plain = next(a for a in alternatives if a.get("type") != "null")
    low, high = plain.get("minimum"), plain.get("maximum")
    above, below = plain.get("exclusiveMinimum"), plain.get("exclusiveMaximum")
    if plain["type"] == "integer":  # for whole numbers, above 0 is the same as at least 1
        low, above = (above + 1, None) if above is not None else (low, None)
        high, below = (below - 1, None) if below is not None else (high, None)
    choices = plain.get("enum", [plain["const"]] if "const" in plain else [])
    return Setting(
        name=name,
        group=found[GROUP_KEY],
        kind=plain["type"],
        description=found.get("description", ""),
        required=required,
        default=found.get("default"),
        nullable=any(a.get("type") == "null" for a in alternatives),
        choices=tuple(choices),
        minimum=low,
        above=above,
        maximum=high,
        below=below,
    )


def fault(model: type[BaseModel], setting: Setting, value: Any) -> str | None:
    """Say why the model refuses a value, as the end of a sentence; None if it accepts it."""
    try:
        model.__pydantic_validator__.validate_assignment(
            model.model_construct(), setting.name, value
        )
    except ValidationError as error:
        if setting.kind == "string" and not setting.choices and isinstance(value, str):
            return f"is not accepted: {error.errors()[0]['msg']}"
        shown = repr(value[:40]) if isinstance(value, str) else number_text(value)[:40]
        return f"must be {setting.rule}, not {shown}"
    return None
