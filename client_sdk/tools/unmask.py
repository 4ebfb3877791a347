"""Recomputes the mean of a masked round: from the masked updates, and the shares that clients gave.

It adds whole files in the integers modulo 2^bits, where the coordinator adds spans in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from client_sdk.memory.masks import attempt_in, slot_in
from serverless_fl.domain.errors import BadWeights
from serverless_fl.privacy.secure.fixed_point import Counts, FixedPoint
from serverless_fl.privacy.secure.party import Answer
from serverless_fl.privacy.secure.recovery import left_over
from serverless_fl.privacy.secure.streams import apply_streams
from serverless_fl.privacy.secure.unmasking import Sum
from serverless_fl.weights import codec, encodings
from serverless_fl.weights.header import FLOATS, Layout, layout_of
from serverless_fl.wire import masking


def unmasked_mean(
    experiment_id: str,
    view: masking.MaskingView,
    layout: Layout,
    start: bytes,
    masked: Sequence[tuple[int, bytes, str]],
    added: bytes | None = None,
) -> tuple[dict[str, np.ndarray], Counts]:
    """Give the mean of the updates by tensor, float64, and what their sum says beside it.

    `start` is the model that they were trained from (safetensors of the `layout`); `masked` has a
    slot, a file and masked counts for each update. `added` are the words that a helper adds to
    their sum, if there is one. Raises BadWeights, BadAnswer.
    """
    attempt = attempt_in(experiment_id, view)
    terms = attempt.terms
    answers = {
        slot_in(found.client): Answer(_shares(found.seeds), _shares(found.keys))
        for found in view.answers
    }
    sharers, summed = [slot_in(c) for c in view.sharers], [slot for slot, _, _ in masked]
    point, form = FixedPoint.of(terms), encodings.encoded_layout(layout, f"masked-uint{terms.bits}")
    try:
        texts = [text for _, _, text in masked]
        if added is None:
            streams = list(left_over(attempt, sharers, summed, answers))
        else:
            streams = []
            texts.append(view.helper_counts)
        counts = Sum(terms, layout, streams, texts).counts
    except ValueError as error:
        raise BadWeights(f"its masks cannot be taken off: {error}.") from error
    floats = [tensor for tensor in layout.tensors if tensor.dtype in FLOATS]
    words = np.zeros(sum(tensor.count for tensor in floats), point.dtype)
    for _, data, _ in masked:
        encodings.require_same_form(form, layout_of(data))
        values = dict(codec.arrays(layout_of(data), data))
        words += np.concatenate([np.empty(0, point.dtype), *(values[t.name] for t in floats)])
    if added is None:
        apply_streams(words, streams)
    else:
        words += _words(added, point.dtype, words.size)
    change, place = point.decode(words, counts.examples), 0
    mean = {name: array.astype(np.float64) for name, array in codec.arrays(layout, start)}
    for tensor in floats:
        mean[tensor.name] = mean[tensor.name] + change[place : place + tensor.count]
        place += tensor.count
    return mean, counts


def masked_words(layout: Layout) -> int:
    """Give the number of a model's masked words."""
    return sum(tensor.count for tensor in layout.tensors if tensor.dtype in FLOATS)


def _words(data: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    if len(data) != count * dtype.itemsize:
        raise BadWeights("the helper has given another number of words.")
    return np.frombuffer(data, dtype)


def _shares(shares: Sequence[masking.ShareOf]) -> dict[int, bytes]:
    return {slot_in(each.client): bytes.fromhex(each.share) for each in shares}
