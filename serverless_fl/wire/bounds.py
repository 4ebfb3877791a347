"""The bounds of numbers, ids and URLs in requests and answers.

Each side checks the other's messages before it uses them, because a number becomes the size of a
buffer or the length of a pause, and an id becomes a part of a path.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BeforeValidator, FailFast, Field, StringConstraints

from serverless_fl.domain import records
from serverless_fl.domain.metrics import MAX_METRICS

MAX_PARTS = records.MAX_PARTS  # in one file
MAX_EXAMPLES = 10**9
MAX_ROUNDS = 1_000_000
MAX_CLIENTS = 100_000
MAX_ATTEMPTS = 1000  # at one round
MAX_DEADLINE = 30 * 86_400  # seconds
MAX_EPOCHS, MAX_BATCH, MAX_RATE, MAX_DECAY = 10_000, 1_000_000, 1000, 10  # of a training
MAX_MU, MAX_GRADIENT_NORM = 1000, 1e9  # of FedProx, and of a clipped gradient
LONGEST_PAUSE = 86_400.0  # seconds

ClientId = Annotated[str, StringConstraints(pattern=r"^client-[0-9]{1,6}$")]
ExperimentId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Secret = Annotated[
    str, StringConstraints(pattern=r"^[\x21-\x7e]{1,512}$")
]  # an HTTP header's value
StateName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
# Of a masked update: 16 hexadecimal digits for the examples, and 32 for each metric.
MAX_COUNTS = 16 + 32 * MAX_METRICS
Counts = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]*$", max_length=MAX_COUNTS)]
# `serverless_fl.privacy.secure.helper.Seal` reads it.
SealText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_= -]*$", max_length=5800)]
Url = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,8192}$")]

RoundNumber = Annotated[int, Field(ge=0, le=MAX_ROUNDS)]
Attempt = Annotated[int, Field(ge=0, le=MAX_ATTEMPTS)]
Examples = Annotated[int, Field(ge=0, le=MAX_EXAMPLES * MAX_CLIENTS)]  # of all clients together
Bytes = Annotated[int, Field(ge=0, le=2**50)]
PartBytes = Annotated[int, Field(ge=1, le=2**32, examples=[8388608])]
PartNumber = Annotated[int, Field(ge=0, lt=MAX_PARTS, examples=[0])]
Pause = Annotated[float, Field(ge=0, le=LONGEST_PAUSE, description="Seconds")]

Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH)]
LearningRate = Annotated[float, Field(gt=0, le=MAX_RATE, allow_inf_nan=False)]
Momentum = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
WeightDecay = Annotated[float, Field(ge=0, le=MAX_DECAY, allow_inf_nan=False)]
ProximalMu = Annotated[float, Field(ge=0, le=MAX_MU, allow_inf_nan=False)]
GradientNorm = Annotated[float, Field(gt=0, le=MAX_GRADIENT_NORM, allow_inf_nan=False)]
Budget = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]  # US dollars
Epsilon = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
RateFactor = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
KeepDays = Annotated[int, Field(ge=1, le=36_500)]  # after an experiment's end
Seed = Annotated[int, Field(ge=0, lt=2**63)]

T = TypeVar("T")
# Pydantic keeps about a kilobyte for every error that it finds: 15 MB of bad items took 4.5 GB of
# memory. So a list stops at its first bad item, and the number of an object's fields is bounded.
Listed = Annotated[list[T], FailFast()]
MAX_FIELDS = 128


def require_few(value: object) -> object:
    """Give the value unchanged. Raises ValueError if it is an object with too many fields."""
    if isinstance(value, dict) and len(value) > MAX_FIELDS:
        raise ValueError(f"must not have more than {MAX_FIELDS} fields")
    return value


Few = BeforeValidator(require_few)
