"""Takes what clients send in the phases of secure aggregation, and shows them what they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.service.clients.enrolment import require_part
from app.service.context import Context
from app.service.records.attempts import attempt_context, member_of
from app.service.rounds.machine import Rounds
from serverless_fl.domain.errors import Conflict, NotFound, OutOfTurn
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import (
    Client,
    PhaseAnswer,
    PhaseBoxes,
    PhaseConfirmation,
    PhaseKeys,
    client_id,
)
from serverless_fl.domain.round import Round, RoundState
from serverless_fl.privacy.secure.context import AttemptContext, Refused
from serverless_fl.privacy.secure.graph import COMPLETE, neighbours

_S = RoundState
_Sent = PhaseKeys | PhaseBoxes | PhaseConfirmation | PhaseAnswer
_SHARED = frozenset({_S.COLLECTING, _S.SEALED, _S.CONFIRMING, _S.UNMASKING})
_AFTER = frozenset({_S.AGGREGATING, _S.CLOSED})


@dataclass(frozen=True, kw_only=True)
class Masking:
    """An attempt as far as it has come. `boxes` are those that one client can open, by sender."""

    round: Round
    context: AttemptContext
    sharers: tuple[int, ...]
    boxes: Mapping[int, str]
    confirmations: list[PhaseConfirmation]
    answers: list[PhaseAnswer]
    helper: str  # its public key, hexadecimal


class Maskings:
    """The phases, as clients see them. A client's first word in a phase stands."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds

    async def read(self, experiment_id: str, number: int, client: Client | None) -> Masking:
        """What a client needs to know of the round's attempt, or (None) what the admin may know.

        Raises NotFound.
        """
        experiment = await self.repo.experiment(experiment_id)
        round_ = await self.repo.round(experiment_id, number)
        if round_ is None or not round_.masked:
            raise NotFound(f"Round {number} has no masks.")
        context = await attempt_context(self.repo, experiment, round_)
        shared = round_.state in _SHARED | _AFTER
        boxes = await self._boxes(round_, context, client) if shared and client is not None else {}
        answers = []
        if client is None and round_.state in _AFTER and not round_.helped:
            answers = await self.repo.phase_answers(round_)
        return Masking(
            round=round_,
            context=context,
            sharers=round_.cohort if shared else (),
            boxes=boxes,
            confirmations=await self.repo.phase_confirmations(round_) if round_.accepted else [],
            answers=answers,
            helper=experiment.config.helper_key,
        )

    async def helper_words(self, experiment_id: str, number: int, first: int, count: int) -> bytes:
        """What the helper adds to the masked words of an aggregated round, from `first` on: at
        most `count` words, little-endian, for the admin. The helper gives the same ones each time.

        Raises NotFound, HelperUnavailable, HelperRefused.
        """
        experiment = await self.repo.experiment(experiment_id)
        round_ = await self.repo.round(experiment_id, number)
        if round_ is None or not round_.helped or round_.state not in _AFTER:
            raise NotFound(f"The helper has opened no sum of round {number}.")
        # Imported here: it brings NumPy, and most processes only answer polls.
        from app.service.secure.helped import Helped

        updates = await self.repo.accepted_updates(round_)
        helped = await Helped.of(self.context, experiment, round_, updates)
        most = self.context.limits.part_bytes // 4
        return (await helped.words(first, min(count, most))).tobytes()

    async def _boxes(
        self, round_: Round, context: AttemptContext, client: Client
    ) -> Mapping[int, str]:
        """Those of its neighbours; a client that is not in the roster has none."""
        if client.slot not in round_.roster:
            return {}
        near = set(_neighbours(context, client)).intersection(round_.cohort)
        # Where a client needs most documents, pages of all take less time than each alone.
        slots = None if len(context.roster) <= COMPLETE else near
        found = await self.repo.phase_boxes(round_, slots)
        return {sent.slot: sent.boxes[client.slot] for sent in found if sent.slot in near}

    async def add_keys(self, client: Client, number: int, attempt: int, keys: PhaseKeys) -> Round:
        """Take the public keys of a client. Raises OutOfTurn, Conflict."""
        experiment, round_ = await self._require_turn(
            client, number, attempt, RoundState.ADVERTISING
        )
        _require_keys(keys)
        if keys.identity:
            _require_signature(await attempt_context(self.repo, experiment, round_), keys)
        if not await self.repo.add_phase_keys(round_, keys):
            _require_standing(await self.repo.phase_keys(round_, [client.slot]), keys, "keys")
        return await self._advanced(client, round_)

    async def add_boxes(self, client: Client, number: int, attempt: int, sent: PhaseBoxes) -> Round:
        """Take a client's boxes, one for each of its neighbours. Raises OutOfTurn, Conflict."""
        experiment, round_ = await self._require_turn(client, number, attempt, RoundState.SHARING)
        context = await attempt_context(self.repo, experiment, round_)
        if set(sent.boxes) != set(_neighbours(context, client)):
            raise Conflict(
                "There must be a box for each neighbour, and no other.", code="not-asked-for"
            )
        if not await self.repo.add_phase_boxes(round_, sent):
            _require_standing(await self.repo.phase_boxes(round_, [client.slot]), sent, "boxes")
        return await self._advanced(client, round_)

    async def add_confirmation(
        self, client: Client, number: int, attempt: int, sent: PhaseConfirmation
    ) -> Round:
        """Take a client's signature under the list of the sum. Raises OutOfTurn, Conflict."""
        experiment, round_ = await self._require_turn(
            client, number, attempt, RoundState.CONFIRMING
        )
        # Imported here: few calls need the package of ciphers.
        from serverless_fl.privacy.secure.identity import has_confirmed

        context = await attempt_context(self.repo, experiment, round_)
        signature = bytes.fromhex(sent.signature)
        if not has_confirmed(context, client.slot, round_.accepted, signature):
            raise Conflict("This is no signature under the list of the sum.", code="not-signed")
        if not await self.repo.add_phase_confirmation(round_, sent):
            stored = await self.repo.phase_confirmations(round_, [client.slot])
            _require_standing(stored, sent, "signatures")
        return await self._advanced(client, round_)

    async def add_answer(
        self, client: Client, number: int, attempt: int, answer: PhaseAnswer
    ) -> Round:
        """Take the shares that a client hands in. Raises OutOfTurn, Conflict."""
        experiment, round_ = await self._require_turn(client, number, attempt, RoundState.UNMASKING)
        context = await attempt_context(self.repo, experiment, round_)
        near, within = {client.slot, *_neighbours(context, client)}, set(round_.accepted)
        lost = set(round_.cohort) - within
        if not (set(answer.seeds) <= near & within and set(answer.keys) <= near & lost):
            raise Conflict("These are shares that the sum does not need.", code="not-asked-for")
        if not await self.repo.add_phase_answer(round_, answer):
            stored = await self.repo.phase_answers(round_, [client.slot])
            _require_standing(stored, answer, "shares")
        return await self._advanced(client, round_)

    async def _require_turn(
        self, client: Client, number: int, attempt: int, state: RoundState
    ) -> tuple[Experiment, Round]:
        """The open round, if it is in this phase and waits for the client. Raises OutOfTurn."""
        experiment, round_ = await self.repo.with_round(client.experiment_id)
        require_part(experiment, client.slot)
        wanted = number, attempt
        if round_ is None or experiment.ended or (round_.number, round_.attempt) != wanted:
            raise OutOfTurn(f"Attempt {attempt} at round {number} is over, or not open yet.")
        if round_.state is not state:
            raise OutOfTurn(f"Round {number} is {round_.state}, no longer or not yet {state}.")
        if client.slot not in round_.awaited:
            raise OutOfTurn(f"Round {number} does not wait for {client_id(client.slot)}.")
        return experiment, round_

    async def _advanced(self, client: Client, before: Round) -> Round:
        """Go on, perhaps with the next phase. Raises OutOfTurn if the client came too late.

        What a client sends after the phase's list was frozen is in no list.
        """
        await self.rounds.advance(client.experiment_id)
        now = await self.repo.round(client.experiment_id, before.number)
        assert now is not None  # noqa: S101  (rounds stay)
        if now.attempt == before.attempt and now.state is not before.state:
            late = {
                RoundState.ADVERTISING: client.slot not in now.roster,
                RoundState.SHARING: client.slot not in (*now.cohort, *now.accepted),
            }
            if late.get(before.state, False):
                raise OutOfTurn(f"Round {before.number} went on before this arrived.")
        return now


def _require_keys(keys: PhaseKeys) -> None:
    """Raise Conflict for a key with which the other clients could agree on nothing."""
    # Imported here: few calls need the package of ciphers.
    from serverless_fl.privacy.secure.agreement import BadKey, agree, new_secret

    try:
        for key in (keys.box_key, keys.mask_key):
            agree(new_secret(), bytes.fromhex(key))
    except BadKey as error:
        raise Conflict("A key gives no secret: make another one.", code="not-asked-for") from error


def _require_signature(context: AttemptContext, keys: PhaseKeys) -> None:
    """Raise Conflict for keys that their identity has not signed: others would refuse them all."""
    from serverless_fl.privacy.secure.identity import require_signature

    try:
        require_signature(context, member_of(keys))
    except Refused as refused:
        raise Conflict(str(refused), code="not-signed") from refused


def _neighbours(context: AttemptContext, client: Client) -> tuple[int, ...]:
    return neighbours(context.slots, context.digest)[client.slot]


def _require_standing(stored: Sequence[_Sent], sent: _Sent, what: str) -> None:
    """Raise Conflict unless a client has sent again what is stored of it."""
    if sent not in stored:
        raise Conflict(
            f"Other {what} of this client stand for the attempt: it sits the attempt out.",
            code="already-sent",
        )
