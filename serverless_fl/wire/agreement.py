"""Bodies of what parties with data of their own agree on: facts, columns' sums, and the terms."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, StringConstraints

from serverless_fl.domain.agreement import (
    MAX_COLUMNS,
    MAX_FACT,
    MAX_FACT_NAME,
    MAX_FACTS,
    MAX_SQUARES,
    MAX_SUM,
)
from serverless_fl.wire.base import Answer, Body
from serverless_fl.wire.bounds import MAX_EXAMPLES, Examples, Listed
from serverless_fl.wire.text import require_plain


def _require_few_facts(value: object) -> object:
    if isinstance(value, dict) and len(value) > MAX_FACTS:
        raise ValueError(f"must not have more than {MAX_FACTS} facts")
    return value


ColumnName = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_FACT_NAME), AfterValidator(require_plain)
]


Facts = Annotated[
    dict[
        ColumnName,
        Annotated[str, StringConstraints(max_length=MAX_FACT), AfterValidator(require_plain)],
    ],
    BeforeValidator(_require_few_facts),
    Field(examples=[{"class 0": "benign", "column age": "number"}]),
]


class ColumnSums(Body):
    """Sums over a party's values of one column; examples that lack a value are left out."""

    column: ColumnName = Field(examples=["age"])
    count: int = Field(ge=0, le=MAX_EXAMPLES, examples=[409])
    sum: FiniteFloat = Field(ge=-MAX_SUM, le=MAX_SUM, examples=[22495.0])
    squares: FiniteFloat = Field(ge=0, le=MAX_SQUARES, examples=[1345701.0])


class ScaleView(Answer):
    """The mean and the standard deviation of a column over `count` values of all parties."""

    column: ColumnName
    mean: FiniteFloat
    deviation: FiniteFloat = Field(gt=0)
    count: Examples


class AgreementView(Answer):
    """The terms on which parties with data of their own take part."""

    max_examples: int = Field(ge=1, le=MAX_EXAMPLES, description="The most that one may declare")
    facts: Facts = Field(
        description="What must be the same everywhere, from the initial model's metadata"
    )
    normalise: Listed[ColumnName] = Field(
        max_length=MAX_COLUMNS, description="Columns whose sums a party sends before the start"
    )
    sums_due: bool = Field(description="A party that enrols now sends the sums")
    scales: Listed[ScaleView] = Field(
        max_length=MAX_COLUMNS,
        description="What the parties' sums have fixed; empty before the start, and if "
        "`normalisation` is `given`",
    )
