"""What a client is told to do next: the answers of its status."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from serverless_fl.domain.experiment import ExperimentState
from serverless_fl.wire.bounds import (
    Attempt,
    BatchSize,
    Bytes,
    Epochs,
    LearningRate,
    Listed,
    Momentum,
    PartBytes,
    Pause,
    RoundNumber,
    Seed,
    WeightDecay,
)
from serverless_fl.wire.schema import Answer, BlobInfo
from serverless_fl.wire.text import Shown


class Training(Answer):
    """How to train: SGD over the shard."""

    local_epochs: Epochs
    batch_size: BatchSize
    learning_rate: LearningRate
    momentum: Momentum
    weight_decay: WeightDecay = 0.0
    seed: Seed = Field(description="The experiment's; derive your own of it, round and client")


class Train(Answer):
    """Train now."""

    action: Literal["train"] = "train"
    round: RoundNumber
    attempt: Attempt
    base_version: RoundNumber
    model: BlobInfo
    deadline: datetime
    seconds_left: float = Field(ge=0, le=30 * 86_400)
    training: Training
    part_bytes: PartBytes = Field(description="The most bytes of one uploaded part")
    direct: bool = Field(
        False, description="Parts go to the blob store itself, by URLs of `POST .../parts`"
    )
    at_once: bool = Field(
        False,
        description="An update of one part may be brought by `PUT .../rounds/{round}/update`",
    )
    max_update_bytes: Bytes
    content_codings: Listed[Shown] = Field(
        [],
        max_length=16,
        description="Content-Encoding that a part may have besides none (RFC 9110, section 8.4)",
        examples=[["gzip"]],
    )
    update_encoding: Shown = Field(
        "weights", description="As the experiment's setting of that name says", examples=["weights"]
    )
    download_encoding: Shown = Field(
        "weights",
        description="If another, `model` is `GET .../models/{version}/encoded`",
        examples=["weights"],
    )


MAX_HOLD = 25.0  # seconds: below what proxies commonly let an answer take


class Wait(Answer):
    """Ask again after `retry_after` seconds; it is jittered so that clients do not come at once.

    Where `hold` is given, better ask again at once with `wait` and this `round`: the answer comes
    when there is something to do.
    """

    action: Literal["wait"] = "wait"
    round: RoundNumber
    retry_after: Pause
    message: Shown = Field(examples=["17 of 20 clients enrolled."])
    hold: Pause = Field(
        0.0,
        description="The most seconds of `wait` that are taken; 0: no answer is held",
        examples=[20],
    )


class Done(Answer):
    """The experiment has ended."""

    action: Literal["done"] = "done"
    state: ExperimentState
    reason: Shown
    model_version: RoundNumber | None


RoundStatus = Annotated[Train | Wait | Done, Field(discriminator="action")]
