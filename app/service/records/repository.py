"""Domain objects in and out of the document store. Names its kinds of documents and their keys."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import TYPE_CHECKING

from app.service.records import mapping
from app.service.records.keys import (
    attempt_key,
    client_key,
    key_of,
    of_slot,
    updates_of,
)
from app.service.records.mapping import body_of, by_slots, by_texts
from app.service.records.scans import PAGE, scan_all, scan_to
from app.service.records.sums import SumRecords
from app.store.port import Body, Document, Documents
from app.telemetry import ids
from serverless_fl.domain.agreement import Normalisation
from serverless_fl.domain.errors import NotAToken, NotFound
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import (
    Claim,
    Client,
    Evaluation,
    ModelVersion,
    PhaseAnswer,
    PhaseBoxes,
    PhaseConfirmation,
    PhaseKeys,
    Refusal,
    Update,
)
from serverless_fl.domain.round import Round, RoundState
from serverless_fl.weights.header import Layout, read_header

if TYPE_CHECKING:
    from serverless_fl.privacy.secure.context import AttemptContext

Slots = Collection[int] | None
KINDS_OF_AN_EXPERIMENT = (  # beside "experiments"; their keys begin with the experiment's id
    *("clients", "rounds", "updates", "refusals", "models", "evaluations", "sums", "claims"),
    *("announced", "announced_initial", "groups", "normalisations", "buffered"),
    *("phase_keys", "phase_boxes", "phase_confirmations", "phase_answers", "secrets", "notices"),
    "wake_ups",
)  # "claims" are in databases of earlier versions
_PHASES = {  # the kind of what clients send in a phase
    RoundState.ADVERTISING: "phase_keys",
    RoundState.SHARING: "phase_boxes",
    RoundState.CONFIRMING: "phase_confirmations",
    RoundState.UNMASKING: "phase_answers",
}
LAYOUTS = 64  # a process remembers the layouts of so many experiments


def new_secret() -> str:
    """Make a secret of 32 bytes, hexadecimal."""
    return secrets.token_hex(32)


class Repository:
    """Typed reads and writes.

    `add_...` inserts a document if it is absent, `save_...` compares and sets its revision. Both
    return whether that was done.
    """

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.sums = SumRecords(documents)
        self._layouts: dict[str, Layout] = {}
        # Of `app.service.records.attempts`, by the digest of their facts and their roster.
        self.attempts: dict[tuple[bytes, tuple[int, ...]], AttemptContext] = {}
        self.listeners: list[Callable[[str], None]] = []

    def _changed(self, experiment_id: str, done: bool) -> bool:
        """Call the listeners if this process has written an experiment or its round."""
        if done:
            for listener in self.listeners:
                listener(experiment_id)
        return done

    # Experiments

    async def add_experiment(self, experiment: Experiment, unique: str) -> bool:
        return await self.documents.insert(
            "experiments", experiment.id, body_of(experiment), unique=unique
        )

    async def experiment(self, experiment_id: str) -> Experiment:
        """Raises NotFound where there is none, or where it was deleted."""
        found = await self.documents.get("experiments", experiment_id)
        if found is None:
            raise NotFound(f"There is no experiment {experiment_id[:80]!r}.")
        ids.note(experiment=experiment_id)
        experiment = mapping.known_experiment(found)
        if experiment.deleted_at is not None:
            raise NotFound("The experiment was deleted.", code="deleted")
        return experiment

    async def tombstone(self, experiment_id: str) -> Experiment | None:
        """The record that is left of a deleted experiment; None where it was not deleted."""
        found = await self.documents.get("experiments", experiment_id)
        experiment = None if found is None else mapping.known_experiment(found)
        return experiment if experiment and experiment.deleted_at is not None else None

    async def experiment_by_key(self, unique: str) -> Experiment | None:
        found = await self.documents.find("experiments", unique)
        return None if found is None else mapping.experiment(found)

    async def experiments(self, after: str, limit: int) -> list[Experiment]:
        """`limit` experiments by id, without deleted ones; fewer only if there are no more."""
        found: list[Experiment] = []
        while page := await self.with_tombstones(after, limit):
            found += [experiment for experiment in page if experiment.deleted_at is None]
            after = page[-1].id
            if len(found) >= limit or len(page) < limit:
                break
        return found[:limit]

    async def with_tombstones(self, after: str, limit: int) -> list[Experiment]:
        """As `experiments`, with the deleted ones."""
        found = await self.documents.scan("experiments", "", after=after, limit=limit)
        return [mapping.experiment(d) for d in found]

    async def save_experiment(self, experiment: Experiment) -> bool:
        """Compare-and-set on the revision that was read."""
        done = await self.documents.replace(
            "experiments", experiment.id, experiment.revision, body_of(experiment)
        )
        return self._changed(experiment.id, done)

    async def erase(self, experiment_id: str) -> None:
        """Delete all documents of a deleted experiment but the one that says so."""
        for kind in KINDS_OF_AN_EXPERIMENT:
            await self.documents.delete(kind, f"{experiment_id}/")

    # Ticks

    async def tick_start(self) -> str:
        """The next tick begins after the experiment with this id; after none, where it is empty."""
        found = await self.documents.get("ticks", "start")
        return "" if found is None else str(found.body["after"])

    async def save_tick_start(self, after: str) -> None:
        """Two ticks may save at once; either value will do."""
        found, body = await self.documents.get("ticks", "start"), {"after": after}
        if found is None:
            await self.documents.insert("ticks", "start", body)
        else:
            await self.documents.replace("ticks", "start", found.revision, body)

    # Clients

    async def add_client(self, client: Client, unique: str) -> bool:
        """False where the slot is taken, or the client's key (`unique`) has a slot already."""
        key = key_of(client.experiment_id, client.slot)
        unique = f"{client.experiment_id}/{unique}"
        return await self.documents.insert("clients", key, body_of(client), unique=unique)

    async def client_by_key(self, experiment_id: str, unique: str) -> Client | None:
        found = await self.documents.find("clients", f"{experiment_id}/{unique}")
        return None if found is None else mapping.client(found)

    async def client(self, experiment_id: str, slot: int) -> Client | None:
        found = await self.documents.get("clients", key_of(experiment_id, slot))
        return None if found is None else mapping.known_client(found)

    async def client_again(self, client: Client) -> Client:
        """The client's record as it is now. Raises NotAToken if the experiment was deleted."""
        found = await self.client(client.experiment_id, client.slot)
        if found is None:
            raise NotAToken
        return found

    async def count_clients(self, experiment_id: str) -> int:
        """Clients claim slots in ascending order, so the last slot gives their number."""
        prefix = f"{experiment_id}/"
        last = await self.documents.last_key("clients", prefix)
        return 0 if last is None else int(last[len(prefix) :]) + 1

    async def enrolled_slots(self, experiment_id: str) -> list[int]:
        return await self._slots("clients", f"{experiment_id}/")

    async def clients(self, experiment_id: str, after: str, limit: int) -> list[Client]:
        prefix = f"{experiment_id}/"
        found = await self.documents.scan("clients", prefix, after=after, limit=limit)
        return [mapping.client(d) for d in found]

    async def each_client(self, experiment_id: str) -> AsyncIterator[Client]:
        """All clients in the order of their slots, read page by page."""
        place = ""
        while page := await self.clients(experiment_id, place, PAGE):
            for client in page:
                yield client
            place = client_key(experiment_id, page[-1].slot)

    async def save_client(self, client: Client) -> bool:
        """Compare-and-set on the revision that was read."""
        key = key_of(client.experiment_id, client.slot)
        return await self.documents.replace("clients", key, client.revision, body_of(client))

    async def add_normalisation(self, normalisation: Normalisation) -> bool:
        key = key_of(normalisation.experiment_id, 0)
        return await self.documents.insert("normalisations", key, body_of(normalisation))

    async def normalisation(self, experiment_id: str) -> Normalisation | None:
        """What the parties' sums have fixed; None before the start, and where none is asked for."""
        found = await self.documents.get("normalisations", key_of(experiment_id, 0))
        return None if found is None else mapping.normalisation(found)

    async def secret(self, experiment_id: str) -> bytes:
        """The experiment's secret of 32 bytes, of which its noise is drawn; made at the first call.

        Whoever inserts it first makes it for all.
        """
        key = key_of(experiment_id, 0)
        found = await self.documents.get("secrets", key)
        if found is None:
            body = {"secret": new_secret()}
            await self.documents.insert("secrets", key, body)
            found = await self.documents.get("secrets", key)
            assert found is not None  # noqa: S101  (inserted by this call or by a faster one)
        return bytes.fromhex(found.body["secret"])

    # Rounds

    async def add_round(self, round_: Round) -> bool:
        key = key_of(round_.experiment_id, round_.number)
        done = await self.documents.insert("rounds", key, body_of(round_))
        return self._changed(round_.experiment_id, done)

    async def round(self, experiment_id: str, number: int) -> Round | None:
        found = await self.documents.get("rounds", key_of(experiment_id, number))
        return None if found is None else mapping.known_round(found)

    async def with_round(self, experiment_id: str) -> tuple[Experiment, Round | None]:
        """An experiment and the round that it is in; None before the first. Raises NotFound."""
        experiment = await self.experiment(experiment_id)
        number = experiment.round
        return experiment, await self.round(experiment_id, number) if number else None

    async def rounds(self, experiment_id: str, after: int = 0) -> list[Round]:
        place = key_of(experiment_id, after) if after else ""
        found = await scan_all(self.documents, "rounds", f"{experiment_id}/", place)
        return [mapping.round(d) for d in found]

    async def save_round(self, round_: Round) -> bool:
        """Compare-and-set on the revision that was read."""
        key = key_of(round_.experiment_id, round_.number)
        done = await self.documents.replace("rounds", key, round_.revision, body_of(round_))
        return self._changed(round_.experiment_id, done)

    # Updates and refusals

    async def add_update(self, update: Update) -> bool:
        key = of_slot(updates_of(update.experiment_id, update.round, update.attempt), update.slot)
        return await self.documents.insert("updates", key, body_of(update))

    async def update(
        self, experiment_id: str, number: int, slot: int, attempt: int = 0
    ) -> Update | None:
        key = of_slot(updates_of(experiment_id, number, attempt), slot)
        found = await self.documents.get("updates", key)
        return None if found is None else mapping.known_update(found)

    async def updates(self, round_: Round) -> list[Update]:
        """All stored updates of a round, by slot. The round's `accepted` says which ones count."""
        prefix = updates_of(round_.experiment_id, round_.number, round_.updates_attempt)
        return [mapping.update(d) for d in await scan_all(self.documents, "updates", prefix)]

    async def accepted_updates(self, round_: Round) -> list[Update]:
        """The updates that count in a round whose list is frozen, by slot."""
        accepted = set(round_.accepted)
        return [update for update in await self.updates(round_) if update.slot in accepted]

    async def updates_of(self, round_: Round, slots: Sequence[int]) -> list[Update]:
        """The stored updates of these ascending slots. One scan reads those in between, too."""
        prefix = updates_of(round_.experiment_id, round_.number, round_.updates_attempt)
        after = of_slot(prefix, slots[0] - 1) if slots[0] else ""
        last = of_slot(prefix, slots[-1])
        found = await scan_to(self.documents, "updates", prefix, after, last, len(slots))
        return [update for d in found if (update := mapping.update(d)).slot in slots]

    async def reported_slots(self, round_: Round, leading: str = "") -> list[int]:
        """The slots with an update, or those of them whose digits start with `leading`."""
        prefix = updates_of(round_.experiment_id, round_.number, round_.updates_attempt)
        return await self._slots("updates", prefix, leading)

    # Phases of secure aggregation

    async def add_phase_keys(self, round_: Round, found: PhaseKeys) -> bool:
        return await self._add_phase("phase_keys", round_, found.slot, body_of(found))

    async def phase_keys(self, round_: Round, slots: Slots = None) -> list[PhaseKeys]:
        """The keys of an attempt, by slot; of some slots, or of all."""
        found = await self._phase("phase_keys", round_, slots)
        return [PhaseKeys(**d.body) for d in found]

    async def add_phase_boxes(self, round_: Round, found: PhaseBoxes) -> bool:
        body = {"slot": found.slot, "boxes": by_texts(found.boxes)}
        return await self._add_phase("phase_boxes", round_, found.slot, body)

    async def phase_boxes(self, round_: Round, slots: Slots = None) -> list[PhaseBoxes]:
        """The boxes of an attempt, by the slot that has made them; of some slots, or of all."""
        found = await self._phase("phase_boxes", round_, slots)
        return [PhaseBoxes(slot=d.body["slot"], boxes=by_slots(d.body["boxes"])) for d in found]

    async def add_phase_confirmation(self, round_: Round, found: PhaseConfirmation) -> bool:
        return await self._add_phase("phase_confirmations", round_, found.slot, body_of(found))

    async def phase_confirmations(
        self, round_: Round, slots: Slots = None
    ) -> list[PhaseConfirmation]:
        """The signatures under the list of those in the sum, by slot; of some slots, or of all."""
        found = await self._phase("phase_confirmations", round_, slots)
        return [PhaseConfirmation(**d.body) for d in found]

    async def add_phase_answer(self, round_: Round, found: PhaseAnswer) -> bool:
        body = {"slot": found.slot, "seeds": by_texts(found.seeds), "keys": by_texts(found.keys)}
        return await self._add_phase("phase_answers", round_, found.slot, body)

    async def phase_answers(self, round_: Round, slots: Slots = None) -> list[PhaseAnswer]:
        """The shares that were handed in, by slot; of some slots, or of all."""
        found = await self._phase("phase_answers", round_, slots)
        return [
            PhaseAnswer(
                slot=d.body["slot"], seeds=by_slots(d.body["seeds"]), keys=by_slots(d.body["keys"])
            )
            for d in found
        ]

    async def _phase(self, kind: str, round_: Round, slots: Slots) -> list[Document]:
        prefix = attempt_key(round_)
        if slots is None:
            return await scan_all(self.documents, kind, prefix)
        wanted = [of_slot(prefix, slot) for slot in sorted(slots)]
        found = await asyncio.gather(*(self.documents.get(kind, key) for key in wanted))
        return [document for document in found if document is not None]

    async def phase_slots(self, round_: Round) -> list[int]:
        """The slots that have done their part of the phase that the attempt is in."""
        return await self._slots(_PHASES[round_.state], attempt_key(round_))

    async def has_done_phase(self, round_: Round, slot: int) -> bool:
        key = of_slot(attempt_key(round_), slot)
        return await self.documents.get(_PHASES[round_.state], key) is not None

    async def forget_phases(self, experiment_id: str, number: int, *, boxes: bool = False) -> None:
        """Delete the boxes of a closed round, or everything of its phases."""
        for kind in ("phase_boxes",) if boxes else _PHASES.values():
            await self.documents.delete(kind, f"{key_of(experiment_id, number)}/")

    async def _add_phase(self, kind: str, round_: Round, slot: int, body: Body) -> bool:
        return await self.documents.insert(kind, of_slot(attempt_key(round_), slot), body)

    async def add_claim(self, claim: Claim) -> bool:
        key = key_of(claim.experiment_id, claim.base, claim.slot)
        return await self.documents.insert("buffered", key, body_of(claim))

    async def claim(self, experiment_id: str, base: int, slot: int) -> Claim | None:
        found = await self.documents.get("buffered", key_of(experiment_id, base, slot))
        return None if found is None else Claim(**found.body, revision=found.revision)

    async def save_claim(self, claim: Claim) -> bool:
        """Compare-and-set on the revision that was read."""
        key = key_of(claim.experiment_id, claim.base, claim.slot)
        return await self.documents.replace("buffered", key, claim.revision, body_of(claim))

    async def add_refusal(self, refusal: Refusal) -> None:
        """The first refusal of a client in a round stands, so no client can fill the store."""
        key = key_of(refusal.experiment_id, refusal.round, refusal.slot)
        await self.documents.insert("refusals", key, body_of(refusal))

    async def refusal(self, experiment_id: str, number: int, slot: int) -> Refusal | None:
        found = await self.documents.get("refusals", key_of(experiment_id, number, slot))
        return None if found is None else Refusal(**found.body)

    async def refusals(self, experiment_id: str, number: int | None = None) -> list[Refusal]:
        """The refusals of one round, or of all rounds."""
        numbers = () if number is None else (number,)
        found = await scan_all(self.documents, "refusals", f"{key_of(experiment_id, *numbers)}/")
        return [Refusal(**d.body) for d in found]

    async def refused_slots(self, experiment_id: str, number: int, leading: str = "") -> list[int]:
        """The slots with a refusal, as `reported_slots`."""
        return await self._slots("refusals", f"{key_of(experiment_id, number)}/", leading)

    # Models and evaluations

    async def add_model(self, model: ModelVersion) -> bool:
        key = key_of(model.experiment_id, model.version)
        return await self.documents.insert("models", key, mapping.body_of_model(model))

    async def model(self, experiment_id: str, version: int) -> ModelVersion | None:
        found = await self.documents.get("models", key_of(experiment_id, version))
        return None if found is None else mapping.known_model(found)

    async def layout(self, experiment_id: str) -> Layout:
        """The tensors that every model and update of an experiment has. Raises NotFound."""
        known = self._layouts.get(experiment_id)
        if known is None:
            first = await self.model(experiment_id, 0)
            if first is None:
                raise NotFound("The experiment has no initial model yet.")
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            # It never changes, because the initial model does not.
            known = self._layouts[experiment_id] = read_header(base64.b64decode(first.header))
        return known

    async def models(self, experiment_id: str, after: int = -1) -> list[ModelVersion]:
        place = "" if after < 0 else key_of(experiment_id, after)
        found = await scan_all(self.documents, "models", f"{experiment_id}/", place)
        return [mapping.model(d) for d in found]

    async def add_evaluation(self, evaluation: Evaluation) -> bool:
        key = f"{key_of(evaluation.experiment_id, evaluation.version)}/{evaluation.source}"
        return await self.documents.insert("evaluations", key, body_of(evaluation))

    async def evaluation(self, experiment_id: str, version: int, source: str) -> Evaluation | None:
        found = await self.documents.get(
            "evaluations", f"{key_of(experiment_id, version)}/{source}"
        )
        return None if found is None else Evaluation(**found.body)

    async def evaluations(self, experiment_id: str, after: int = -1) -> list[Evaluation]:
        """The evaluations of the model versions above `after`."""
        # This is a prefix of the next version's keys; the keys of earlier versions are smaller.
        place = key_of(experiment_id, after + 1)
        found = await scan_all(self.documents, "evaluations", f"{experiment_id}/", place)
        return [Evaluation(**d.body) for d in found]

    async def count_evaluations(self, experiment_id: str) -> int:
        return await self.documents.count("evaluations", f"{experiment_id}/")

    async def _slots(self, kind: str, prefix: str, leading: str = "") -> list[int]:
        keys = await self.documents.keys(kind, prefix + leading)
        return [int(key[len(prefix) :]) for key in keys]
