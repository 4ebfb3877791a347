"""The turns of a client: train, wait or done. The round status answers with one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field, FiniteFloat, create_model

from serverless_fl.aggregation import STRATEGIES
from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.domain.experiment import ExperimentState
from serverless_fl.domain.round import RoundState
from serverless_fl.wire.base import Answer, Direct
from serverless_fl.wire.bounds import (
    MAX_DEADLINE,
    Attempt,
    Bytes,
    Few,
    Listed,
    PartBytes,
    Pause,
    RoundNumber,
    StateName,
)
from serverless_fl.wire.choices import OneOf
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.schema import BlobInfo
from serverless_fl.wire.settings import GROUP_KEY, Group
from serverless_fl.wire.text import Shown

# A client has no use for the model's name; these two are in the round's learning rate.
NOT_TOLD = frozenset({"model", "learning_rate_factor", "learning_rate_schedule"})
# Every coordinator has told these. Others may be missing, and are at their defaults then.
ALWAYS_TOLD = frozenset({"local_epochs", "batch_size", "learning_rate", "momentum", "seed"})
_IN_A_TURN = {  # descriptions that differ from those of the experiment's settings
    "learning_rate": "Learning rate of SGD in this round",
    "seed": "The experiment's seed; a client derives its own from it, the round and its id",
}


def training_of(declared: type[ExperimentConfig]) -> type[Training]:
    """Make the model of what a turn tells of the training: settings of the group `training`."""
    return cast("type[Training]", _group_of(declared, "training", "Training", _TRAINING))


def privacy_of(declared: type[ExperimentConfig]) -> type[Privacy]:
    """Make the model of what a turn tells of the privacy: settings of the group `privacy`."""
    return cast("type[Privacy]", _group_of(declared, "privacy", "Privacy", _PRIVACY))


def _group_of(declared: type[ExperimentConfig], group: Group, name: str, doc: str) -> Any:
    """The model of a group's settings, each with its type and bounds as declared."""
    told: dict[str, Any] = {}
    for field, setting in declared.model_fields.items():
        own = cast("dict[str, str]", setting.json_schema_extra)[GROUP_KEY]
        if own == group and field not in NOT_TOLD:
            default = ... if field in ALWAYS_TOLD else setting.default
            description = _IN_A_TURN.get(field, setting.description)
            told[field] = (setting.rebuild_annotation(), Field(default, description=description))
    return create_model(name, __base__=Answer, __doc__=doc, __module__=__name__, **told)


_TRAINING = "The settings of local training: those of the experiment's group `training`."
_PRIVACY = "The settings of the experiment's group `privacy`."
if TYPE_CHECKING:

    class Training(ExperimentConfig):
        __doc__ = _TRAINING

    class Privacy(ExperimentConfig):
        __doc__ = _PRIVACY

else:
    Training = training_of(ExperimentConfig)
    Privacy = privacy_of(ExperimentConfig)


class Train(Answer):
    """The client trains now, from the model `base_version`."""

    action: Literal["train"] = "train"
    round: RoundNumber
    attempt: Attempt
    base_version: RoundNumber
    model: BlobInfo
    strategy: Annotated[Strategy, OneOf(STRATEGIES)] | None = Field(
        None,
        description="The experiment's strategy, if clients have a part in it: its settings, and "
        "the metrics that it needs",
    )
    state: Annotated[dict[StateName, BlobInfo], Few] = Field(
        default_factory=dict,
        description="The arrays of the strategy's state that a client needs to train, by name; one "
        "that no version has yet is missing, and has its initial value everywhere",
    )
    deadline: datetime
    seconds_left: float = Field(ge=0, le=MAX_DEADLINE)
    training: Training
    part_bytes: PartBytes = Field(description="The most bytes of one uploaded part")
    direct: Direct = False
    at_once: bool = Field(
        False,
        description="A client may upload an update of one part by `PUT .../rounds/{round}/update`",
    )
    max_update_bytes: Bytes
    content_codings: Listed[Shown] = Field(
        [],
        max_length=16,
        description="The Content-Encodings that a part may have (RFC 9110, section 8.4)",
        examples=[["gzip"]],
    )
    update_encoding: Shown = Field(
        "weights", description="The experiment's setting `update_encoding`", examples=["weights"]
    )
    download_encoding: Shown = Field(
        "weights",
        description="The experiment's setting `download_encoding`; unless it is `weights`, `model` "
        "is the file of `GET .../models/{version}/encoded`",
        examples=["weights"],
    )
    privacy: Privacy | None = Field(
        None,
        description="The experiment's settings of privacy, if clients have a part in it",
    )
    clip_norm: FiniteFloat | None = Field(
        None,
        gt=0,
        description="A client scales an update that is further from its base model down to this "
        "distance, because the coordinator refuses it otherwise; unless it is null. The same is in "
        "`privacy`, which older coordinators do not tell",
    )

    @property
    def told_privacy(self) -> Privacy:
        """The settings of privacy by which a client sends its update."""
        if self.privacy is not None:
            return self.privacy
        return Privacy.model_validate({"max_update_norm": self.clip_norm, "norm_action": "reject"})


MAX_HOLD = 25.0  # seconds; common proxies give up after 30


class Wait(Answer):
    """The client asks again after `retry_after` seconds, which are jittered to spread the clients.

    If `hold` is above 0, a client does better to ask again at once with `wait` and this `round`:
    the coordinator answers when there is something to do.
    """

    action: Literal["wait"] = "wait"
    round: RoundNumber
    retry_after: Pause
    message: Shown = Field(examples=["17 of 20 clients enrolled."])
    hold: Pause = Field(
        0.0,
        description="The most seconds that `wait` may ask for; 0: the coordinator holds no answer",
        examples=[20],
    )


class Phase(Answer):
    """The client does its part in a phase of secure aggregation.

    It reads `GET .../rounds/{round}/masking` and sends a POST below that: `keys` while the round is
    `advertising`, `boxes` while it is `sharing`, `confirmation` while it is `confirming`, and
    `answer` while it is `unmasking`.
    """

    action: Literal["phase"] = "phase"
    round: RoundNumber
    attempt: Attempt
    state: RoundState
    seconds_left: float = Field(ge=0, le=MAX_DEADLINE)


class Done(Answer):
    """The experiment has ended."""

    action: Literal["done"] = "done"
    state: ExperimentState
    reason: Shown
    model_version: RoundNumber | None


RoundStatus = Annotated[Train | Wait | Phase | Done, Field(discriminator="action")]
