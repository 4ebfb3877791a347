"""The bases of all bodies, and the kinds of text that several of them hold."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from serverless_fl.domain.metrics import METRIC_NAME
from serverless_fl.wire.text import require_plain

Sha256 = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
    Field(description="SHA-256, 64 hexadecimal digits", examples=["a1" * 32]),
]
Direct = Annotated[
    bool,
    Field(description="Clients PUT parts to the blob store, by URLs from `POST .../parts`"),
]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=200),
    AfterValidator(require_plain),
]
MetricName = Annotated[str, StringConstraints(pattern=METRIC_NAME)]


def require_metric_name(text: str) -> str:
    """Give the text unchanged. Raises ValueError, in words, unless it is a metric's name."""
    if not re.match(METRIC_NAME, text):
        raise ValueError("must be 1 to 64 letters, digits and signs of _ . : -")
    return text


ChosenMetric = Annotated[
    str,
    AfterValidator(require_metric_name),
    WithJsonSchema({"type": "string", "pattern": METRIC_NAME}),
]
"""As `MetricName`, for people: an error says what a name is instead of the pattern."""


class Answer(BaseModel):
    """An answer's body. Pydantic builds its validator on the first use, not in the cold start."""

    model_config = ConfigDict(defer_build=True)


class Body(BaseModel):
    """A request's body. It refuses unknown fields, so a misspelt setting is an error.

    It does not take `true` or `"20"` for a number. Pydantic builds its validator on the first use.
    """

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
