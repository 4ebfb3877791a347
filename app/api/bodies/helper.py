"""Bodies of the helper."""

from __future__ import annotations

from serverless_fl.domain.errors import HelperRefused
from serverless_fl.domain.records import slot_named
from serverless_fl.privacy.secure.context import AttemptContext
from serverless_fl.privacy.secure.helper import Sealed
from serverless_fl.privacy.secure.terms import Terms
from serverless_fl.wire import masking


def sealed_of(body: masking.SumOfMasks) -> Sealed:
    """The sum that a coordinator asks for. Raises HelperRefused."""
    seals = {slot_named(each.client): each.seal for each in body.updates}
    known = {slot: seal for slot, seal in seals.items() if slot is not None}
    if len(known) != len(body.updates):
        raise HelperRefused("The sum has a client twice, or one that is none.")
    context = AttemptContext(
        experiment=body.experiment,
        round=body.round,
        attempt=body.attempt,
        model_sha256=body.model_sha256,
        config_sha256=body.config_sha256,
        terms=Terms(
            bits=body.words,
            max_weight_change=body.max_weight_change,
            parties=body.parties,
            most_examples=body.most_examples,
            metrics=tuple(body.metrics),
        ),
        roster=(),
    )
    try:
        return Sealed.of(context, known)
    except ValueError as error:
        raise HelperRefused(f"A seal cannot be read: {error}.") from error
