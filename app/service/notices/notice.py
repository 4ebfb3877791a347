"""What the operator's webhooks are told of an experiment: its ends, its pauses, its stalls.

No notice is stored when the thing happens. Like the audit log (docs/decisions/0011), each follows
from the record that the act itself has left, so none is lost with a process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.round import Round


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One thing that happened. `id` is the same for the same thing, for ever; `body` is JSON."""

    id: str
    at: float
    body: bytes


def notices_of(experiment: Experiment, round_: Round | None) -> Iterator[Notice]:
    """Give all of an experiment. `round_` is its round now: a stall of an earlier one is over."""
    for extension in experiment.extensions:
        if extension.ended_at is not None:
            facts = {"state": "completed", "reason": extension.reason}
            yield _notice(experiment, "ended", extension.ended_at, extension.after_round, facts)
    for pause in experiment.pauses:
        facts = {"state": "paused", "reason": pause.reason}
        yield _notice(experiment, "paused", pause.paused_at, pause.after_round, facts)
    if experiment.ended_at is not None:
        facts = {"state": str(experiment.state), "reason": experiment.reason}
        yield _notice(experiment, "ended", experiment.ended_at, experiment.round, facts)
    if round_ is not None and experiment.state is ExperimentState.RUNNING:
        for ended in round_.earlier:
            reason = (
                f"Attempt {ended.attempt} at round {round_.number} got {len(ended.reported)} "
                f"updates of {len(ended.cohort)}: the round is tried again."
            )
            facts = {"state": "running", "reason": reason}
            yield _notice(experiment, "stalled", ended.ended_at, round_.number, facts)


def _notice(
    experiment: Experiment, what: str, at: float, number: int, facts: dict[str, str]
) -> Notice:
    content = {
        "type": f"experiment.{what}",
        "timestamp": datetime.fromtimestamp(at, UTC).isoformat(),
        "data": {
            "experiment": experiment.id,
            "name": experiment.name,
            **facts,
            "round": number,
            "rounds": experiment.config.rounds,
        },
    }
    body = json.dumps(content, ensure_ascii=False).encode()
    return Notice(id=f"{experiment.id}/{what}.{round(at * 1e6):017d}", at=at, body=body)
