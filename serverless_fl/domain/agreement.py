"""The terms on which parties with data of their own take part, and what they declare of it.

The metadata of the initial model hold the terms, so the file that everybody trains from says what
its inputs and outputs mean. `facts` are words about the data that must be the same everywhere, such
as the name of class 0 or the type of a column. `normalise` names the columns whose mean and
deviation the parties' sums fix. Each later model also has what they have fixed, under `scales`: a
mean and a deviation for each name of `normalise`, in its order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from serverless_fl.domain.characters import CONTROLS
from serverless_fl.domain.errors import BadEnrolment, BadWeights

FACTS, NORMALISE = "facts", "normalise"  # the keys of the metadata; their values are JSON
SCALES = "scales"
MAX_FACTS = 1000
MAX_FACT_NAME, MAX_FACT = 220, 200  # characters
MAX_COLUMNS = 500  # whose sums the parties send
MAX_SUM, MAX_SQUARES = 1e100, 1e200
_SHOWN = 8  # differences in a message
_ROUNDING = 1e-9  # the relative error that a party's sums may have


@dataclass(frozen=True)
class Agreement:
    """The terms of an experiment: facts by name, and the columns to normalise, in their order."""

    facts: Mapping[str, str]
    normalise: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ColumnSums:
    """Sums over a party's examples of one column, without the examples that lack a value."""

    column: str
    count: int
    sum: float
    squares: float


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The mean and the standard deviation of a column over `count` values of all parties."""

    column: str
    mean: float
    deviation: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """The scales that an experiment fixed at its start, from the sums of the clients in `slots`."""

    experiment_id: str
    scales: tuple[Scale, ...]
    slots: tuple[int, ...]
    fixed_at: float


def agreement_of(metadata: Mapping[str, str]) -> Agreement:
    """Read the terms in the metadata of an initial model.

    Raises BadWeights (`bad-facts`) unless they are bounded words.
    """
    try:
        facts = json.loads(metadata.get(FACTS, "{}"))
        columns = json.loads(metadata.get(NORMALISE, "[]"))
    except (ValueError, RecursionError) as error:
        raise _bad(f"they are not JSON: {error}") from error
    if not isinstance(facts, dict) or not all(isinstance(word, str) for word in facts.values()):
        raise _bad(f"`{FACTS}` must map names to words")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise _bad(f"`{NORMALISE}` must list names of columns")
    if len(facts) > MAX_FACTS or len(columns) > MAX_COLUMNS:
        raise _bad(f"at most {MAX_FACTS} facts and {MAX_COLUMNS} columns are taken")
    for name in [*facts, *columns]:
        if not 0 < len(name) <= MAX_FACT_NAME or len(facts.get(name, "")) > MAX_FACT:
            raise _bad(
                f"a name may have {MAX_FACT_NAME} characters and a fact {MAX_FACT}, but "
                f"{name[:40]!r} has more, or none"
            )
        if CONTROLS.search(name + facts.get(name, "")):
            raise _bad(f"control characters are not taken, but {name[:40]!r} has some")
    if len(set(columns)) < len(columns):
        raise _bad(f"`{NORMALISE}` names a column twice")
    return Agreement(facts, tuple(columns))


def _bad(fault: str) -> BadWeights:
    return BadWeights(f"The initial model's metadata cannot be used: {fault}.", code="bad-facts")


def metadata_of(agreement: Agreement) -> dict[str, str]:
    """Give the terms as metadata, which `agreement_of` reads."""
    found = {FACTS: json.dumps(dict(agreement.facts), ensure_ascii=False)}
    if agreement.normalise:
        found[NORMALISE] = json.dumps(list(agreement.normalise), ensure_ascii=False)
    return found


class Scaled(Protocol):
    """A column with its mean and its deviation, as the coordinator or the SDK has it."""

    @property
    def column(self) -> str: ...
    @property
    def mean(self) -> float: ...
    @property
    def deviation(self) -> float: ...


def published(metadata: Mapping[str, str], scales: Iterable[Scaled]) -> dict[str, str]:
    """Give the metadata of later models: those of the initial one, with the fixed scales.

    Raises BadWeights (`bad-facts`) unless each column to normalise has a scale.
    """
    found = {scale.column: [scale.mean, scale.deviation] for scale in scales}
    columns = agreement_of(metadata).normalise
    if missing := [name for name in columns if name not in found]:
        raise _bad(f"{missing[0][:40]!r} has no scale")
    ordered = [found[name] for name in columns]
    return {**metadata, SCALES: json.dumps(ordered, separators=(",", ":"))}


def scales_in(metadata: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Read the mean and the deviation of each column from a model's metadata; none: no scales.

    A stranger may have written them, so a caller checks the numbers. Raises BadWeights
    (`bad-facts`) for what is not two numbers for each column.
    """
    if SCALES not in metadata:
        return {}
    columns = agreement_of(metadata).normalise
    try:
        found = [
            (float(mean), float(deviation)) for mean, deviation in json.loads(metadata[SCALES])
        ]
        return dict(zip(columns, found, strict=True))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _bad(f"`{SCALES}` must have a mean and a deviation for each column") from error


def require_same_facts(agreed: Mapping[str, str], declared: Mapping[str, str]) -> None:
    """Raise BadEnrolment (`facts-differ`) unless a party declares the agreed facts.

    The message names the differences in the order of the agreed facts, with the words of both. An
    experiment that agreed on nothing takes any facts.
    """
    if not agreed or agreed == declared:
        return
    names = [*agreed, *(name for name in declared if name not in agreed)]
    found = [
        f"{_cut(name)}: {_words(declared.get(name))} here, {_words(agreed.get(name))} in the "
        "experiment"
        for name in names
        if agreed.get(name) != declared.get(name)
    ]
    more = f"; and {len(found) - _SHOWN} more" if found[_SHOWN:] else ""
    raise BadEnrolment(
        f"This party's data are not as the experiment agreed. {'; '.join(found[:_SHOWN])}{more}.",
        code="facts-differ",
    )


def _words(fact: str | None) -> str:
    return "nothing" if fact is None else repr(_cut(fact))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def require_sums(columns: Sequence[str], sums: Sequence[ColumnSums], examples: int) -> None:
    """Raise BadEnrolment unless these are possible sums of exactly these columns, in any order.

    For `count` values v, sum(v)² <= count * sum(v²) (Cauchy and Schwarz).
    """
    named = [found.column for found in sums]
    if sorted(named) != sorted(columns):
        missing = [name for name in columns if name not in named]
        others = [name for name in named if name not in columns]
        fault = (
            f"the sums of {_listed(missing)} are missing"
            if missing
            else f"{_listed(others)} is not among its columns"
            if others
            else "a column is named twice"
        )
        raise BadEnrolment(
            f"The experiment adds up the sums of {len(columns)} columns, and {fault}.",
            code="sums-differ",
        )
    for found in sums:
        if found.count > examples:
            raise _impossible(found, f"{found.count} values of {examples} examples")
        if found.count == 0 and found.squares:
            raise _impossible(found, "there are none, but squares of them")
        least = found.sum**2
        if least > found.count * found.squares * (1 + _ROUNDING):
            raise _impossible(found, "the sum of the squares is too small for the sum")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_cut, names[:3])) + (f" and {len(names) - 3} more" if names[3:] else "")


def _impossible(found: ColumnSums, why: str) -> BadEnrolment:
    return BadEnrolment(
        f"The sums of column {_cut(found.column)} belong to no values: {why}.", code="bad-sums"
    )
