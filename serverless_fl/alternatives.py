"""The alternatives of a choice, such as the strategies. Each is a model of its settings.

Whatever needs settings of its own is one of the alternatives of a choice: `wire.config` declares
the choice (`wire.choices.OneOf`), `domain.choice` keeps what was chosen, and `chosen` gives the
alternative that is meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import InvalidConfig

NAME = "name"  # the field that tells alternatives apart


class Alternative(BaseModel):
    """An alternative and its settings. A subclass adds a field `name: Literal["x"] = "x"`.

    The first sentence of its docstring describes it in help texts and documents. Its settings are
    numbers, words and truth values. Each has a default, bounds and a description, and a name that
    no setting of the experiment or of another choice has.
    """

    # Pydantic builds the validator of an alternative on its first use: a run uses one or two.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True
    )

    name: str


A = TypeVar("A", bound=Alternative)


def name_of(alternative: type[Alternative]) -> str:
    """Give the name by which an alternative is chosen."""
    name: str = alternative.model_fields[NAME].default
    return name


def chosen(choice: Choice, alternatives: tuple[type[A], ...], what: str) -> A:
    """Give the chosen alternative. `what` is the name of the choice, such as "strategy".

    Raises InvalidConfig if there is no such alternative, or if it refuses a setting: another
    release may have stored the experiment.
    """
    found = {name_of(alternative): alternative for alternative in alternatives}
    if choice.name not in found:
        hint = suggestion(choice.name, found)
        raise InvalidConfig(
            f"There is no {what} {choice.name!r}{hint}; there are {', '.join(found)}."
        )
    try:
        return found[choice.name](**choice.settings)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            unknown = str(first["loc"][0])
            hint = suggestion(unknown, found[choice.name].model_fields)
            raise InvalidConfig(f"The {what} {choice.name} has no {unknown}{hint}.") from error
        raise InvalidConfig(f"The {what} {choice.name} refuses {first_fault(error)}.") from error


def stored(choice: Choice, alternatives: tuple[type[A], ...], what: str) -> A:
    """As `chosen`, for a choice of a stored experiment, which each poll and upload asks for.

    Equal choices have the same object. It never changes. (`True` equals 1, but the settings were
    checked before they were stored.)
    """
    found: A = _remembered(choice, alternatives, what)
    return found


_remembered = lru_cache(256)(chosen)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Give ` (did you mean ...?)` if one of the known words is near; empty otherwise."""
    from difflib import get_close_matches  # only a mistake needs it

    near = get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def first_fault(error: ValidationError) -> str:
    """Give the place of the first fault that pydantic found, and its words."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
