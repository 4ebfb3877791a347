"""The audit log of an experiment: who did what and when, derived from the stored records.

No event is stored: each one follows from the record that the act itself has left. So the log costs
nothing while the experiment runs, and it says exactly what happened, whichever process died
(docs/decisions/0011).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import chain

from app.service.context import Context
from app.service.journal import COORDINATOR
from app.service.reading.headline import end_of
from app.service.records.keys import client_key
from serverless_fl.domain.audit import AuditAction, AuditEvent
from serverless_fl.domain.experiment import Experiment, Pause
from serverless_fl.domain.lineage import Extension
from serverless_fl.domain.prices import dollars
from serverless_fl.domain.records import (
    Client,
    Evaluation,
    ModelVersion,
    Refusal,
    client_id,
    slot_named,
)
from serverless_fl.domain.round import Round, RoundState

_A = AuditAction
# The order of what happened at one moment: a client is drawn after it has enrolled, and so on.
_ORDER = {action: place for place, action in enumerate(AuditAction)}
CLIENTS_A_PAGE = 1000
_SEEN = "; the coordinator saw masked updates, their sum, and who took part and when"


class Audit:
    """Reads the log, a page at a time."""

    def __init__(self, context: Context) -> None:
        self.repo = context.repo

    async def events(self, experiment_id: str, after: str, limit: int) -> list[AuditEvent]:
        """Up to `limit` events after the one whose `cursor` is `after`, by time. Raises NotFound.

        Each page reads all records of the experiment.
        """
        experiment = await self.repo.experiment(experiment_id)
        found = _first(_of_experiment(experiment), after, limit)
        initial = await self.repo.model(experiment_id, 0)
        found = _first(chain(found, _of_initial_model(initial)), after, limit)
        place = ""
        while clients := await self.repo.clients(experiment_id, place, CLIENTS_A_PAGE):
            found = _first(chain(found, *map(_of_client, clients)), after, limit)
            place = client_key(experiment_id, clients[-1].slot)
        rounds = await self.repo.rounds(experiment_id)
        encoding = experiment.config.sent_encoding
        found = _first(chain(found, *(_of_round(r, encoding) for r in rounds)), after, limit)
        refusals = _of_refusals(await self.repo.refusals(experiment_id))
        evaluations = _of_evaluations(await self.repo.evaluations(experiment_id))
        return _first(chain(found, refusals, evaluations), after, limit)


def _first(events: Iterable[AuditEvent], after: str, limit: int) -> list[AuditEvent]:
    later = (event for event in events if event.cursor > after)
    return heapq.nsmallest(limit, later, key=lambda event: event.cursor)


def _event(
    at: float,
    who: str,
    what: AuditAction,
    detail: str,
    *,
    number: int | None = None,
    clients: Iterable[int] = (),
    turn: int = 0,
) -> AuditEvent:
    """`turn` tells apart what has the same time, action and round."""
    # Events without a round come before the rounds, but the end of the experiment comes last.
    place = 10**7 if _ORDER[what] >= _ORDER[_A.EXPERIMENT_ENDED] else number or 0
    cursor = f"{round(at * 1e6):017d}.{place:08d}.{_ORDER[what]:02d}.{turn:014d}"
    return AuditEvent(
        cursor=cursor,
        at=at,
        who=who,
        what=what,
        detail=detail,
        round=number,
        clients=tuple(clients),
    )


def _of_experiment(experiment: Experiment) -> Iterator[AuditEvent]:
    name, origin = experiment.name, experiment.origin
    detail = name if origin is None else f"{name}, from {origin}"
    yield _event(experiment.created_at, experiment.created_by, _A.EXPERIMENT_CREATED, detail)
    for rotation in experiment.rotations:
        yield _event(
            rotation.rotated_at,
            rotation.rotated_by,
            _A.ENROLMENT_KEY_REPLACED,
            f"Enrolment key {rotation.generation}",
            turn=rotation.generation,
        )
    for pause in experiment.pauses:
        yield from _of_pause(pause)
    for number, change in enumerate(experiment.budgets):
        yield _event(
            change.changed_at,
            change.changed_by,
            _A.BUDGET_CHANGED,
            f"To an epsilon of {change.epsilon:g}"
            if change.usd is None
            else f"To {dollars(change.usd)}",
            turn=number,
        )
    for number, extension in enumerate(experiment.extensions):
        yield from _of_extension(extension, number)
    if experiment.ended_at is not None:
        yield _event(
            experiment.ended_at,
            experiment.ended_by or COORDINATOR,
            _A.EXPERIMENT_ENDED,
            end_of(experiment),
        )


def _of_pause(pause: Pause) -> Iterator[AuditEvent]:
    number = pause.after_round
    yield _event(
        pause.paused_at, pause.paused_by, _A.EXPERIMENT_PAUSED, pause.reason, number=number
    )
    if pause.resumed_at is not None:
        yield _event(pause.resumed_at, pause.resumed_by, _A.EXPERIMENT_RESUMED, "", number=number)


def _of_extension(extension: Extension, number: int) -> Iterator[AuditEvent]:
    if extension.ended_at is not None:
        yield _event(
            extension.ended_at,
            extension.ended_by or COORDINATOR,
            _A.EXPERIMENT_ENDED,
            f"Completed: {extension.reason}",
        )
    yield _event(
        extension.extended_at,
        extension.extended_by,
        _A.EXPERIMENT_EXTENDED,
        f"From {extension.before} to {extension.rounds} rounds",
        turn=number,
    )


def _of_initial_model(model: ModelVersion | None) -> Iterator[AuditEvent]:
    if model is not None:
        detail = f"SHA-256 {model.blob.sha256}"
        yield _event(model.created_at, model.created_by, _A.INITIAL_MODEL_COMMITTED, detail)


def _of_client(client: Client) -> Iterator[AuditEvent]:
    slot, name = client.slot, client.name
    if client.examples is not None:
        name = f"{name}{', ' if name else ''}{client.examples} examples of its own"
    if client.certificate is not None:
        name = f"{name}{', ' if name else ''}certificate of {client.certificate.subject}"
    yield _event(client.enrolled_at, client.id, _A.CLIENT_ENROLLED, name, clients=[slot], turn=slot)
    for at in client.token_changes:
        yield _event(at, client.id, _A.TOKEN_REPLACED, "", clients=[slot], turn=slot)
    if client.revoked_at is not None:
        yield _event(
            client.revoked_at,
            client.revoked_by,
            _A.CLIENT_REVOKED,
            client.name,
            clients=[slot],
            turn=slot,
        )


def _of_round(round_: Round, encoding: str) -> Iterator[AuditEvent]:
    number, cohorts = round_.number, [*(a.cohort for a in round_.earlier), round_.cohort]
    yield _event(
        round_.opened_at,
        COORDINATOR,
        _A.ROUND_OPENED,
        "Cohort",
        number=number,
        clients=cohorts[0],
    )
    for ended, cohort in zip(round_.earlier, cohorts[1:], strict=True):
        yield _event(
            ended.ended_at,
            COORDINATOR,
            _A.ROUND_RETRIED,
            f"Cohort of attempt {ended.attempt + 1}; attempt {ended.attempt} got "
            f"{len(ended.reported)} updates",
            number=number,
            clients=cohort,
            turn=ended.attempt,
        )
    if round_.state is RoundState.CLOSED and round_.closed_at is not None:
        yield _event(
            round_.closed_at,
            COORDINATOR,
            _A.ROUND_CLOSED,
            f"Model version {number}, averaged from these clients' updates, {round_.update_bytes} "
            f"bytes as {encoding}{_SEEN if round_.masked else ''}",
            number=number,
            clients=round_.accepted,
        )


def _of_refusals(refusals: Iterable[Refusal]) -> Iterator[AuditEvent]:
    for refusal in refusals:
        yield _event(
            refusal.refused_at,
            client_id(refusal.slot),
            _A.UPDATE_REFUSED,
            f"{refusal.code}: {refusal.reason}",
            number=refusal.round,
            clients=[refusal.slot],
            turn=refusal.slot,
        )


def _of_evaluations(evaluations: Iterable[Evaluation]) -> Iterator[AuditEvent]:
    for evaluation in evaluations:
        slot = slot_named(evaluation.source)
        yield _event(
            evaluation.received_at,
            evaluation.reported_by or "admin" if slot is None else evaluation.source,
            _A.EVALUATION_REPORTED,
            f"Of model version {evaluation.version}, on {evaluation.num_examples} examples",
            # It depends on this record alone, so the cursor stays when further ones are reported.
            turn=evaluation.version * 10**7 + (0 if slot is None else slot + 1),
        )
