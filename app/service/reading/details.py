"""What there is to read of an experiment, a round and a model: records, and what follows from them.

Nothing here holds a key or a token. Records of experiments and clients hold hashes of them, which
the API leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.service.cost.metering import Estimate
from app.service.data.left_out import LeftOut
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.prices import Prices
from serverless_fl.domain.records import Evaluation, ModelVersion, Refusal, Update
from serverless_fl.domain.round import Round


@dataclass(frozen=True, kw_only=True)
class RoundDetails:
    """A round and the slots of its cohort: reported, refused, revoked, or missing until now.

    `updates` are those that count. `refusals` are of clients that have sent no better update.
    """

    round: Round
    updates: list[Update]
    refusals: list[Refusal]
    revoked: list[int]
    missing: list[int]


@dataclass(frozen=True, kw_only=True)
class PastRound:
    """A line of the history. `cost_usd` is estimated, and None before the round is closed."""

    round: Round
    cost_usd: float | None


@dataclass(frozen=True)
class ListedExperiment:
    """A line of the list. `cost_usd` is estimated, up to the last closed round."""

    experiment: Experiment
    cost_usd: float


@dataclass(frozen=True, kw_only=True)
class ExperimentDetails:
    """An experiment as it stands at the time `now`.

    `always_refused` is the last refusal of each client whose every update was refused, and
    `left_out` are the clients that are missing in closed rounds.
    `retry_after` is the advised pause before the next look, in seconds.
    """

    experiment: Experiment
    progress: str
    enrolled: int
    current: RoundDetails | None
    history: list[PastRound]
    always_refused: list[Refusal]
    left_out: list[LeftOut]
    evaluations: int
    estimate: Estimate | None  # None: hidden, as it tells who took part
    prices: Prices
    part_bytes: int
    direct: bool
    now: float
    retry_after: float

    @property
    def without_rounds(self) -> ExperimentDetails:
        """The experiment for those who must not know who takes part: without what follows of it.

        The cost of rounds and the metrics of cohorts tell about that, too.
        """
        experiment, progress = self.experiment, self.progress
        if experiment.state is ExperimentState.RUNNING:
            of = f"{experiment.round} of {experiment.config.rounds}"
            progress = f"Round {of}. Who takes part is secret."
        return replace(
            self,
            progress=progress,
            current=None,
            history=[],
            always_refused=[],
            left_out=[],
            estimate=None,
        )


@dataclass(frozen=True, kw_only=True)
class ModelDetails:
    """A model version. `kept`: its file is in the store; if not, only this record is."""

    model: ModelVersion
    evaluations: list[Evaluation]
    kept: bool


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """A part of a model's file. `url` answers with it, where the blob store answers clients."""

    number: int
    sha256: str
    size: int
    url: str | None
