"""A client's half of secure aggregation: its secrets, its masked update, and its shares.

What follows from its notes leaves this machine only once they are on the disk
(`serverless_fl.privacy.secure.party`). A client that has lost its notes is lost for the attempt,
and takes part in the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import BadAnswer, DataError
from client_sdk.memory.memory import Memory
from client_sdk.task.task import LocalUpdate
from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.records import client_id, slot_named
from serverless_fl.domain.round import RoundState
from serverless_fl.privacy.secure import helper, party
from serverless_fl.privacy.secure.context import AttemptContext, Member, Refused
from serverless_fl.privacy.secure.fixed_point import FixedPoint, encode_counts
from serverless_fl.privacy.secure.graph import FEWEST
from serverless_fl.privacy.secure.identity import Identity, Pins, require_confirmed
from serverless_fl.privacy.secure.party import Notes, Party
from serverless_fl.privacy.secure.streams import COUNTS, apply_streams
from serverless_fl.privacy.secure.terms import Terms
from serverless_fl.privacy.secure.unmasking import counts_to_text
from serverless_fl.weights import codec, encodings, spans
from serverless_fl.weights.header import FLOATS, layout_of
from serverless_fl.wire import masking
from serverless_fl.wire.identity import Proof, proof_of
from serverless_fl.wire.turns import Phase, Train


@dataclass(frozen=True)
class Masked:
    """A masked update to send: its file, the masked words of its counts, and its seal if there is a
    helper.
    """

    data: bytes
    counts: str
    seal: str = ""


class Masks:
    """A client's half of the rounds of one experiment.

    `fewest` is its own minimum of clients whose updates may be in a sum. It signs its keys with its
    `identity`, and with `pins` it takes part with nobody else. `agreed` are the settings
    that it has accepted; None if it takes any. Methods raise Refused where the coordinator asks for
    what would tell more than such a sum, or for what was not accepted, DataError where the notes
    cannot be kept or read, and the errors of `CoordinatorClient`.
    """

    def __init__(
        self,
        client: CoordinatorClient,
        experiment_id: str,
        slot: int,
        memory: Memory,
        fewest: int = FEWEST,
        identity: Identity | None = None,
        pins: Pins | None = None,
        agreed: Config | None = None,
    ) -> None:
        self._client, self._experiment_id, self._slot = client, experiment_id, slot
        self._memory, self._fewest = memory, fewest
        self._identity, self._pins, self._agreed = identity, pins, agreed
        self._quantised: tuple[tuple[int, str], np.ndarray, np.ndarray] | None = None

    async def do(self, phase: Phase) -> str:
        """Do this client's part of a phase; give a word for it."""
        notes = await asyncio.to_thread(self._begin, phase.round, phase.attempt)
        where = self._experiment_id, phase.round
        if phase.state is RoundState.ADVERTISING:
            await asyncio.to_thread(self._keep, notes)
            own = party.advertised(notes, self._slot)
            await self._client.send_keys(*where, await self._keys(phase, own))
            return "keys sent"
        view = await self._view(phase.round, phase.attempt)
        one = self._party(notes, view)
        if phase.state is RoundState.SHARING:
            one.notes = await asyncio.to_thread(one.share)
            await asyncio.to_thread(self._keep, one.notes)
            boxes = [
                masking.ForClient(client=client_id(slot), box=box)
                for slot, box in one.notes.boxes.items()
            ]
            await self._client.send_boxes(
                *where, masking.PhaseBoxes(attempt=phase.attempt, boxes=boxes)
            )
            return "secrets shared"
        sharers, summed = _slots(view.sharers), _slots(view.summed)
        one.notes = one.settle_summed(sharers, summed)
        await asyncio.to_thread(self._keep, one.notes)
        if phase.state is RoundState.CONFIRMING:
            return await self._confirm(phase, one, summed)
        if self._pins is not None:
            signatures = {
                slot_in(found.client): bytes.fromhex(found.signature)
                for found in view.confirmations
            }
            require_confirmed(one.context, summed, signatures)
        one.notes = one.settle_opened()
        await asyncio.to_thread(self._keep, one.notes)
        boxes_for_me = {slot_in(found.client): bytes.fromhex(found.box) for found in view.boxes}
        answer = await asyncio.to_thread(one.answer, boxes_for_me, sharers, summed)
        await self._client.send_answer(
            *where,
            masking.PhaseAnswer(
                attempt=phase.attempt, seeds=_shares(answer.seeds), keys=_shares(answer.keys)
            ),
        )
        return f"helped to open the sum of {len(summed)} updates"

    async def _confirm(self, phase: Phase, one: Party, summed: list[int]) -> str:
        """Sign the list of those in the sum, which the notes have by now. Raises Refused."""
        if self._identity is None:
            raise Refused("The coordinator asks for a signature, and this client has no identity.")
        sent = masking.PhaseConfirmation(
            attempt=phase.attempt, signature=self._identity.confirm(one.context, summed).hex()
        )
        await self._client.send_confirmation(self._experiment_id, phase.round, sent)
        return f"signed that {len(summed)} updates are in the sum"

    async def mask(
        self, task: Train, base: bytes, update: LocalUpdate, examples: int, seed: int
    ) -> Masked:
        """Give the masked update of a training from the base. `seed` rounds it at random.

        Where an earlier attempt at the round has trained from the same model, its words are masked
        again. Raises Refused for a model that is not the one that all parties agreed on, too.
        """
        view = await self._view(task.round, task.attempt)
        if view.model_sha256 != task.model.sha256:
            raise Refused("The coordinator masks another model than the one to train.")
        self._require_pinned(view)
        if view.helper:
            return await self._seal(task, view, base, update, examples, seed)
        notes = await asyncio.to_thread(self._begin, task.round, task.attempt)
        one = self._party(notes, view)
        sharers = _slots(view.sharers)
        one.notes = one.settle_sharers(sharers)
        words, counts = await self._words(task, one.context.terms, base, update, examples, seed)
        await asyncio.to_thread(one.mask, words, counts, sharers)
        data = await asyncio.to_thread(_file, base, words, task.update_encoding)
        text = counts_to_text(counts)
        digest = hashlib.sha256(data + text.encode()).hexdigest()
        one.notes = one.settle_sent(digest)
        await asyncio.to_thread(self._keep, one.notes)
        return Masked(data, text)

    async def _words(
        self,
        task: Train,
        terms: Terms,
        base: bytes,
        update: LocalUpdate,
        examples: int,
        seed: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The words of an update before they are masked: of its weights, and of its counts."""
        key = task.round, task.model.sha256
        if self._quantised is None or self._quantised[0] != key:
            found = await asyncio.to_thread(_words, base, update, examples, terms, seed)
            self._quantised = (key, *found)
        return self._quantised[1].copy(), self._quantised[2].copy()

    def _require_pinned(self, view: masking.MaskingView) -> None:
        """Raise Refused for a helper that is not pinned."""
        if view.helper and self._pins is not None and view.helper not in self._pins.helpers:
            raise Refused(f"The round has a helper that is not pinned: {view.helper}.")

    async def _seal(
        self,
        task: Train,
        view: masking.MaskingView,
        base: bytes,
        update: LocalUpdate,
        examples: int,
        seed: int,
    ) -> Masked:
        """A masked update whose mask the helper can make, too.

        Its keys are drawn anew for each file, so this client need remember nothing of them.
        """
        context, key = attempt_in(self._experiment_id, view), bytes.fromhex(view.helper)
        if context.terms.parties < self._fewest:
            raise Refused(
                f"A sum has {context.terms.parties} updates at most; this client wants "
                f"{self._fewest}."
            )
        made, stream = helper.seal(
            *(context, self._slot, key),
            fewest=self._fewest,
            pinned=self._pins is not None,
            identity=self._identity,
        )
        words, counts = await self._words(task, context.terms, base, update, examples, seed)
        await asyncio.to_thread(apply_streams, words, [stream])
        apply_streams(counts, [stream], sequence=COUNTS)
        data = await asyncio.to_thread(_file, base, words, task.update_encoding)
        return Masked(data, counts_to_text(counts), made.text)

    async def _keys(self, phase: Phase, own: Member) -> masking.PhaseKeys:
        """The keys to send, signed if this party has an identity."""
        keys = masking.PhaseKeys(
            attempt=phase.attempt, box_key=own.box_key.hex(), mask_key=own.mask_key.hex()
        )
        if self._identity is None:
            return keys
        view = await self._view(phase.round, phase.attempt)
        proof = self._identity.sign(attempt_in(self._experiment_id, view), own)
        return masking.ProvenKeys(**dict(keys), proof=Proof.of(proof))

    def _party(self, notes: Notes, view: masking.MaskingView) -> Party:
        context = attempt_in(self._experiment_id, view)
        if self._pins is not None:
            self._pins.require(context, datetime.now(UTC))
        return Party(self._slot, notes, context, self._fewest)

    def _begin(self, round_: int, attempt: int) -> Notes:
        data = self._memory.secrets()
        try:
            before = None if data is None else Notes.from_json(data)
        except ValueError as error:
            raise DataError(
                f"{self._memory.path}.masks is damaged: delete it, and this client takes part in "
                "the next attempt."
            ) from error
        once = self._pins is not None
        return party.begin(self._experiment_id, round_, attempt, before, once=once)

    def _keep(self, notes: Notes) -> None:
        self._memory.keep_secrets(notes.to_json())

    async def _view(self, number: int, attempt: int) -> masking.MaskingView:
        view = await self._client.masked_round(self._experiment_id, number)
        if (view.round, view.attempt) != (number, attempt):
            raise Refused(f"Attempt {attempt} at round {number} is over.")
        self._require_agreed(view)
        return view

    def _require_agreed(self, view: masking.MaskingView) -> None:
        """Raise Refused for another helper, or other terms of the masks, than were accepted."""
        if self._agreed is None:
            return
        if view.helper != (accepted := self._agreed.helper_key):
            shown = f"the helper {view.helper}" if view.helper else "no helper"
            said = f"the helper {accepted}" if accepted else "none"
            raise Refused(f"The round has {shown}; this client has accepted {said}.")
        if terms_in(view) != Terms.of(self._agreed):
            raise Refused("The round masks updates on other terms than this client has accepted.")


def attempt_in(experiment_id: str, view: masking.MaskingView) -> AttemptContext:
    """What all parties of an attempt agree on, as a coordinator shows it. Raises BadAnswer."""
    return AttemptContext(
        experiment=experiment_id,
        round=view.round,
        attempt=view.attempt,
        model_sha256=view.model_sha256,
        config_sha256=view.config_sha256,
        terms=terms_in(view),
        roster=tuple(
            Member(
                slot_in(m.client),
                bytes.fromhex(m.box_key),
                bytes.fromhex(m.mask_key),
                None if m.proof is None else proof_of(m.proof),
            )
            for m in view.roster
        ),
    )


def terms_in(view: masking.MaskingView) -> Terms:
    """The terms of the masks, as a coordinator shows them."""
    return Terms(
        bits=view.words,
        max_weight_change=view.max_weight_change,
        parties=view.parties,
        most_examples=view.most_examples,
        metrics=tuple(view.metrics),
    )


def slot_in(client: str) -> int:
    """The slot of a client that a coordinator names. Raises BadAnswer."""
    slot = slot_named(client)
    if slot is None:
        raise BadAnswer(f"{client} is no client.")
    return slot


def _words(
    base: bytes, update: LocalUpdate, examples: int, terms: Terms, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The words of an update's weights and counts. Raises DataError."""
    point, draw = FixedPoint.of(terms), np.random.Generator(np.random.PCG64(seed))
    layout, theirs = layout_of(base), layout_of(update.weights)
    try:
        layout.require_same_tensors(theirs)
        start = dict(codec.arrays(layout, base))
        trained = dict(codec.arrays(theirs, update.weights))
        changes = [
            point.encode(
                trained[tensor.name].reshape(-1).astype(np.float64)
                - start[tensor.name].reshape(-1),
                examples,
                draw,
            )
            for tensor in layout.tensors
            if tensor.dtype in FLOATS
        ]
    except BadWeights as error:
        raise DataError(error.message) from error
    except ValueError as error:
        raise DataError(f"The training cannot be sent: {error}.") from error
    counts = encode_counts(terms.metrics, point.counted(examples), update.metrics)
    return np.concatenate([np.empty(0, point.dtype), *changes]), counts


def _file(base: bytes, words: np.ndarray, encoding: str) -> bytes:
    """The file of masked words; tensors of whole numbers stay the base model's."""
    layout = layout_of(base)
    target, values = encodings.encoded_layout(layout, encoding), dict(codec.arrays(layout, base))
    place = 0
    for tensor in layout.tensors:
        if tensor.dtype in FLOATS:
            values[tensor.name] = words[place : place + tensor.count]
            place += tensor.count
    return target.header + bytes(codec.pack(spans.whole(target), values))


def _slots(clients: list[str]) -> list[int]:
    return [slot_in(client) for client in clients]


def _shares(shares: Mapping[int, bytes]) -> list[masking.ShareOf]:
    return [
        masking.ShareOf(client=client_id(slot), share=share.hex()) for slot, share in shares.items()
    ]
