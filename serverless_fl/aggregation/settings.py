"""The settings that several strategies share: one name, one type, one range."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

ServerLearningRate = Annotated[
    FiniteFloat, Field(gt=0, le=1000, description="The server's step along the mean change")
]
ServerMomentum = Annotated[
    FiniteFloat, Field(ge=0, lt=1, description="The share of the last step that the next one keeps")
]
Beta1 = Annotated[
    FiniteFloat,
    Field(
        ge=0, lt=1, description="The share of the mean change's running average that a round keeps"
    ),
]
Beta2 = Annotated[
    FiniteFloat,
    Field(
        ge=0,
        lt=1,
        description="The share of the squared change's running average that a round keeps",
    ),
]
Tau = Annotated[
    FiniteFloat,
    Field(gt=0, le=1, description="Bounds the step: a larger value adapts less to each weight"),
]
Byzantine = Annotated[
    int, Field(ge=0, le=5000, description="Updates of one round that may be malicious (f)")
]
