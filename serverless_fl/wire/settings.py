"""The settings of an experiment as data, read from a pydantic model's JSON schema.

The command's flags, TOML files and docs/settings.md are made from this data. The page reads the
same schema. A setting may be a choice of alternatives with settings of their own
(`serverless_fl.wire.choices`): these stand behind the choice, under names that no other setting
has. Several alternatives may have the same setting, with the same values and different defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from serverless_fl.alternatives import NAME

GROUP_KEY = "x-group"
Group = Literal[
    "data", "training", "strategy", "schedule", "privacy", "encoding", "keeping", "stopping"
]
GROUPS: tuple[Group, ...] = get_args(Group)  # in the order of help texts and documents


@dataclass(frozen=True)
class AlternativeSettings:
    """An alternative of a choice: its name, its description, and its settings by name."""

    name: str
    description: str
    settings: Mapping[str, Setting] = field(hash=False)

    @property
    def summary(self) -> str:
        """The first sentence of the description, in one line."""
        return " ".join(self.description.partition("\n\n")[0].split())


@dataclass(frozen=True)
class Setting:
    """One setting. `kind` is its JSON type.

    `minimum` and `maximum` belong to its range, `above` and `below` do not; None: no bound. A
    choice has `alternatives`. A setting of alternatives has the name of their `choice`, and is
    `taken_by` them, each with its default; `default` is that of the first.
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
    alternatives: tuple[AlternativeSettings, ...] = ()
    choice: str = ""
    taken_by: Mapping[str, Any] = field(default_factory=dict, hash=False)

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
        if len({repr(default) for default in self.taken_by.values()}) > 1:
            takers: dict[str, list[str]] = {}
            for taker, default in self.taken_by.items():
                text = "none" if default is None else number_text(default)
                takers.setdefault(text, []).append(taker)
            return ", ".join(f"{text} in {listed(names)}" for text, names in takers.items())
        return "" if self.required or self.default is None else number_text(self.default)


def number_text(value: Any) -> str:
    """Write a number for people: `100,000`, `0.05`. Write other values as in JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{int(value):,}" if value.is_integer() else repr(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def listed(words: Iterable[str]) -> str:
    """Write words in a sentence: `a`, `a and b`, `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


@cache
def settings_of(model: type[BaseModel]) -> Mapping[str, Setting]:
    """Give the settings that a pydantic model declares, by name, in its order.

    To make a model's JSON schema takes milliseconds, so it is made once.
    """
    return settings_in(model.model_json_schema())


def settings_in(
    schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None
) -> dict[str, Setting]:
    """Give the settings in a JSON schema, by name, in its order.

    `definitions` are the schemas that it refers to, by name; without them, its own `$defs`. Raises
    ValueError if two settings have the same name.
    """
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    found: dict[str, Setting] = {}
    for setting in _of_object(schema, definitions, "").values():
        for each in (setting, *_of_alternatives(setting).values()):
            if each.name in found:
                raise ValueError(f"two settings have the name {each.name}")
            found[each.name] = each
    return found


def _of_object(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], group: str
) -> dict[str, Setting]:
    """The settings of an object, without those of alternatives."""
    required = set(schema.get("required", ()))
    return {
        name: _setting(name, {GROUP_KEY: group, **found}, definitions, name in required)
        for name, found in schema["properties"].items()
    }


def _of_alternatives(choice: Setting) -> dict[str, Setting]:
    """The settings of a choice's alternatives, each once."""
    merged: dict[str, Setting] = {}
    for alternative in choice.alternatives:
        for name, setting in alternative.settings.items():
            known = merged.setdefault(name, setting)
            if _values(known) != _values(setting):
                first = next(iter(known.taken_by))
                raise ValueError(f"{name} takes other values in {alternative.name} than in {first}")
            merged[name] = replace(known, taken_by={**known.taken_by, **setting.taken_by})
    return merged


def _values(setting: Setting) -> Setting:
    """What a setting takes: the setting, without what may differ between alternatives."""
    return replace(setting, description="", default=None, taken_by={})


def _setting(
    name: str, found: Mapping[str, Any], definitions: Mapping[str, Any], required: bool
) -> Setting:
    variants = found.get("anyOf", [found])
    plain = next(v for v in variants if v.get("type") != "null")
    low, high = plain.get("minimum"), plain.get("maximum")
    above, below = plain.get("exclusiveMinimum"), plain.get("exclusiveMaximum")
    if plain["type"] == "integer":  # for whole numbers, above 0 is the same as at least 1
        low, above = (above + 1, None) if above is not None else (low, None)
        high, below = (below - 1, None) if below is not None else (high, None)
    choices = plain.get("enum", [plain["const"]] if "const" in plain else [])
    objects = next((v["oneOf"] for v in variants if "oneOf" in v), ())
    return Setting(
        name=name,
        group=found[GROUP_KEY],
        kind=plain["type"],
        description=found.get("description", ""),
        required=required,
        default=found.get("default"),
        nullable=any(v.get("type") == "null" for v in variants),
        choices=tuple(choices),
        minimum=low,
        above=above,
        maximum=high,
        below=below,
        alternatives=tuple(
            _alternative(name, found[GROUP_KEY], definitions[o["$ref"].rpartition("/")[2]])
            for o in objects
        ),
    )


def _alternative(choice: str, group: str, schema: Mapping[str, Any]) -> AlternativeSettings:
    name = schema["properties"][NAME]["const"]
    settings = _of_object(schema, {}, group)
    del settings[NAME]
    settings = {
        key: replace(setting, choice=choice, taken_by={name: setting.default})
        for key, setting in settings.items()
    }
    return AlternativeSettings(name, schema.get("description", ""), settings)


def values_of(config: BaseModel) -> dict[str, Any]:
    """Give the values of all settings by name; those of a chosen alternative beside its choice."""
    found = config.model_dump(mode="json")
    for choice in settings_of(type(config)).values():
        if choice.alternatives:
            chosen = getattr(config, choice.name).model_dump(mode="json")
            found |= {choice.name: chosen.pop(NAME), **chosen}
    return found


def fault(model: type[BaseModel], setting: Setting, value: Any) -> str | None:
    """Say why the model refuses a value, as the end of a sentence; None if it accepts it."""
    whole, name = value, setting.name
    if setting.choice:
        whole, name = {NAME: next(iter(setting.taken_by)), setting.name: value}, setting.choice
    elif setting.alternatives and not isinstance(value, str):
        whole = None  # it is no name
    try:
        model.__pydantic_validator__.validate_assignment(model.model_construct(), name, whole)
    except ValidationError as error:
        found = [e for e in error.errors() if not setting.choice or setting.name in e["loc"]]
        if not found:
            return None  # it contradicts another setting, which may be given, too
        if found[0]["type"] == "value_error":  # a rule of this package, in its own words
            return f"{found[0]['ctx']['error']}, not {value[:40]!r}"
        if setting.kind == "string" and not setting.choices and isinstance(value, str):
            return f"is not accepted: {found[0]['msg']}"
        shown = repr(value[:40]) if isinstance(value, str) else number_text(value)[:40]
        return f"must be {setting.rule}, not {shown}"
    return None
