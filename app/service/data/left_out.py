"""The clients whose updates are missing in closed rounds, and why: they were late, or silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.service.records.repository import Repository
from serverless_fl.domain.experiment import Config, Experiment
from serverless_fl.domain.records import LATE, client_id
from serverless_fl.domain.round import Round, RoundState

ROUNDS = 100  # the newest rounds, which are looked at
_OFTEN = 0.25  # of its rounds: a client that was left out of more is named in the headline
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A client that was `asked` in so many rounds, and is missing in some of their models.

    Its update was `late`, or never came (`silent`). `after_grace` of these rounds did not wait for
    the deadline, because the grace after the quorum was over.
    """

    slot: int
    asked: int
    late: int = 0
    silent: int = 0
    after_grace: int = 0

    @property
    def rounds(self) -> int:
        """The number of rounds that it was left out of."""
        return self.late + self.silent

    @property
    def is_often(self) -> bool:
        return self.rounds > 1 and self.rounds >= _OFTEN * self.asked

    def reason(self, config: Config) -> str:
        """Say in a sentence why, and which setting would help."""
        fates = [f"late in {self.late}"] * bool(self.late)
        fates += [f"missing in {self.silent}"] * bool(self.silent)
        deadline = f"deadline_seconds ({config.deadline_seconds:g})"
        ends = [f"{self.after_grace} closed at the end of the grace after the quorum"]
        ends *= bool(self.after_grace)
        if at_deadline := self.rounds - self.after_grace:
            ends.append(f"{at_deadline} at the deadline")
        grace = config.schedule.settings.get("grace_seconds")
        help_ = f"a longer grace_seconds ({grace:g})" if self.after_grace and grace else ""
        help_ = f"{help_} or {deadline}" if help_ else f"a longer {deadline}"
        tail = f"; {help_} waits for it" if self.late else ""
        return (
            f"Its update was {' and '.join(fates)} of its {self.asked} rounds, of which "
            f"{' and '.join(ends)}{tail}."
        )


async def left_out(repo: Repository, experiment: Experiment) -> list[LeftOut]:
    """The clients that closed rounds were made without, by slot; none with a common data set.

    Refused and revoked ones are named elsewhere. It looks at the newest rounds.
    """
    if not experiment.config.own_data or not experiment.round:
        return []
    newest = await repo.rounds(experiment.id, max(0, experiment.round - 1 - ROUNDS))
    closed = [round_ for round_ in newest if round_.state is RoundState.CLOSED]
    if all(round_.asked <= {*round_.accepted, *round_.lost} for round_ in closed):
        return []  # nearly always so
    refusals = await repo.refusals(experiment.id)
    late = {(r.round, r.slot) for r in refusals if r.code == LATE}
    refused = {(r.round, r.slot) for r in refusals if r.code != LATE}
    return _count(experiment.config, closed, late, refused)


def _count(
    config: Config,
    rounds: Sequence[Round],
    late: set[tuple[int, int]],
    refused: set[tuple[int, int]],
) -> list[LeftOut]:
    counts: dict[int, dict[str, int]] = {}
    for round_ in rounds:
        begun = round_.earlier[-1].ended_at if round_.earlier else round_.opened_at
        graced = round_.deadline < begun + config.deadline_seconds - 1e-3
        for slot in round_.asked:
            found = counts.setdefault(slot, {"asked": 0, "late": 0, "silent": 0, "after_grace": 0})
            found["asked"] += 1
            here = round_.number, slot
            out = {*round_.accepted, *round_.lost, *round_.revoked}
            if slot in out or here in refused:
                continue
            found["late" if here in late else "silent"] += 1
            found["after_grace"] += graced
    all_ = [LeftOut(slot=slot, **found) for slot, found in sorted(counts.items())]
    return [found for found in all_ if found.rounds]


def describe_left_out(found: Sequence[LeftOut]) -> str:
    """A further sentence about the clients that are left out often; empty if there are none."""
    often = sorted((f for f in found if f.is_often), key=lambda f: (-f.rounds, f.slot))
    if not often:
        return ""
    named = ", ".join(
        f"{client_id(f.slot)}, of {f.rounds} of its {f.asked} rounds"
        + (f" ({f.late} updates were late)" if f.late else "")
        for f in often[:_NAMED]
    )
    more = f" and {len(often) - _NAMED} more" if often[_NAMED:] else ""
    return f" Left out: {named}{more}."
