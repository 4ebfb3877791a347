"""Bodies of secure aggregation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.api.bodies.common import ids_of
from app.service.coordinator import Masking
from serverless_fl.domain.errors import Conflict
from serverless_fl.domain.records import (
    PhaseAnswer,
    PhaseBoxes,
    PhaseConfirmation,
    PhaseKeys,
    client_id,
    slot_named,
)
from serverless_fl.domain.round import Round
from serverless_fl.wire import identity, masking


def masking_body(found: Masking) -> masking.MaskingView:
    """An attempt, as far as it has come."""
    round_, context = found.round, found.context
    terms = context.terms
    return masking.MaskingView(
        round=round_.number,
        attempt=round_.attempt,
        state=round_.state,
        model_sha256=context.model_sha256,
        config_sha256=context.config_sha256,
        words=terms.bits,
        max_weight_change=terms.max_weight_change,
        parties=terms.parties,
        most_examples=terms.most_examples,
        metrics=list(terms.metrics),
        roster=[
            masking.MemberView(
                client=client_id(member.slot),
                box_key=member.box_key.hex(),
                mask_key=member.mask_key.hex(),
                proof=None if member.proof is None else identity.Proof.of(member.proof),
            )
            for member in context.roster
        ],
        sharers=ids_of(found.sharers),
        summed=ids_of(round_.accepted),
        boxes=[
            masking.FromClient(client=client_id(slot), box=box)
            for slot, box in sorted(found.boxes.items())
        ],
        confirmations=[
            masking.ConfirmationView(client=client_id(each.slot), signature=each.signature)
            for each in found.confirmations
        ],
        answers=[
            masking.SharesView(
                client=client_id(answer.slot),
                seeds=_shares(answer.seeds),
                keys=_shares(answer.keys),
            )
            for answer in found.answers
        ],
        helper=found.helper,
        helper_counts=round_.helper_counts,
    )


def receipt_body(round_: Round) -> masking.PhaseReceipt:
    """The round, after it has taken what a client sent."""
    return masking.PhaseReceipt(round=round_.number, attempt=round_.attempt, state=round_.state)


def keys_of(slot: int, body: masking.ProvenKeys) -> PhaseKeys:
    proof = {} if body.proof is None else body.proof.model_dump()
    return PhaseKeys(slot=slot, box_key=body.box_key, mask_key=body.mask_key, **proof)


def boxes_of(slot: int, body: masking.PhaseBoxes) -> PhaseBoxes:
    return PhaseBoxes(slot=slot, boxes={_slot(each.client): each.box for each in body.boxes})


def confirmation_of(slot: int, body: masking.PhaseConfirmation) -> PhaseConfirmation:
    return PhaseConfirmation(slot=slot, signature=body.signature)


def answer_of(slot: int, body: masking.PhaseAnswer) -> PhaseAnswer:
    return PhaseAnswer(slot=slot, seeds=_by_slots(body.seeds), keys=_by_slots(body.keys))


def _shares(shares: Mapping[int, str]) -> list[masking.ShareOf]:
    return [
        masking.ShareOf(client=client_id(slot), share=share)
        for slot, share in sorted(shares.items())
    ]


def _by_slots(shares: Sequence[masking.ShareOf]) -> dict[int, str]:
    return {_slot(each.client): each.share for each in shares}


def _slot(client: str) -> int:
    slot = slot_named(client)
    if slot is None:
        raise Conflict(f"{client} is no client.", code="not-asked-for")
    return slot
