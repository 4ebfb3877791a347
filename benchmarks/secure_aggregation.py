"""What secure aggregation costs a client and the coordinator: processor seconds, and bytes.

python -m benchmarks.secure_aggregation [--weights N] [--cohorts 10 100 1000] [--bits 32] [--helper]

It runs the arithmetic of a round without a network or a store: the keys, boxes and masks of one
client, and the whole unmasking at the coordinator, with shares of all clients for each share of
them that is lost while they train. With --helper it is the mode `helper`: the seal and the mask of
one client, and all that the helper does for a round. Seconds are of one core
(`time.process_time`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np

from serverless_fl.privacy.secure import agreement, graph, helper, party, recovery, streams
from serverless_fl.privacy.secure.context import AttemptContext
from serverless_fl.privacy.secure.party import BOX_BYTES, Party
from serverless_fl.privacy.secure.shamir import SHARE_BYTES
from serverless_fl.privacy.secure.terms import Terms

T = TypeVar("T")
LOST = (0.0, 0.1, 0.3)


def seconds_of(work: Callable[[], T]) -> tuple[float, T]:
    """The processor seconds that the work takes, and its result."""
    started = time.process_time()
    found = work()
    return time.process_time() - started, found


def measure(cohort: int, weights: int, bits: int) -> None:
    """Print one line for each share of lost clients."""
    terms = Terms(
        bits=bits, max_weight_change=1.0, parties=cohort, most_examples=100, metrics=("loss",)
    )
    notes = {slot: party.begin("benchmark", 1, 1) for slot in range(cohort)}
    context = AttemptContext(
        experiment="benchmark",
        round=1,
        attempt=1,
        model_sha256="m",
        config_sha256="c",
        terms=terms,
        roster=tuple(party.advertised(found, slot) for slot, found in notes.items()),
    )
    parties = {slot: Party(slot, found, context) for slot, found in notes.items()}
    shared = {slot: seconds_of(one.share) for slot, one in parties.items()}
    for slot, (_, notes_of) in shared.items():
        parties[slot].notes = notes_of
    words, counts = np.zeros(weights, f"<u{bits // 8}"), np.zeros(3, "<u8")
    masking, _ = seconds_of(lambda: parties[0].mask(words, counts, range(cohort)))
    found = graph.parameters(cohort)
    sent = words.nbytes + found.degree * BOX_BYTES + 2 * 32 + (found.degree + 1) * SHARE_BYTES
    for lost in LOST:
        summed = range(round(lost * cohort), cohort)
        answers, answering = {}, 0.0
        for slot in summed:
            boxes = {
                other: bytes.fromhex(one.notes.boxes[slot])
                for other, one in parties.items()
                if slot in one.notes.boxes
            }
            one = parties[slot]
            spent, answers[slot] = seconds_of(
                lambda one=one, boxes=boxes, summed=summed: one.answer(boxes, range(cohort), summed)  # type: ignore[misc]
            )
            answering += spent / len(summed)
        if not recovery.suffices(context, range(cohort), summed, list(summed)):
            print(f"{cohort:>7} {lost:>5.0%}  ends: fewer than {found.threshold} shares are left")
            continue
        combining, left = seconds_of(
            lambda summed=summed, answers=answers: list(  # type: ignore[misc]
                recovery.left_over(context, range(cohort), summed, answers)
            )
        )
        unmasking, _ = seconds_of(lambda left=left: streams.apply_streams(words, left))  # type: ignore[misc]
        client = shared[0][0] + masking + answering
        print(
            f"{cohort:>7} {lost:>5.0%} {found.degree:>7} {client:>8.3f} {masking:>8.3f} "
            f"{combining + unmasking:>12.3f} {len(left):>8} {sent / weights:>8.3f}"
        )


def measure_helper(cohort: int, weights: int, bits: int) -> None:
    """Print the line of a round with a helper, who is asked for at most a mebiword at once."""
    context = AttemptContext(
        experiment="benchmark",
        round=1,
        attempt=1,
        model_sha256="m",
        config_sha256="c",
        terms=Terms(
            bits=bits, max_weight_change=1.0, parties=cohort, most_examples=100, metrics=("loss",)
        ),
        roster=(),
    )
    one = helper.Helper(secret=agreement.new_secret())
    sealing, seals = seconds_of(
        lambda: [helper.seal(context, slot, one.key) for slot in range(cohort)]
    )
    words = np.zeros(weights, f"<u{bits // 8}")
    masking, _ = seconds_of(lambda: streams.apply_streams(words, [seals[0][1]]))
    asked = helper.Sealed.of(context, {n: seal.text for n, (seal, _) in enumerate(seals)})

    def answer() -> int:
        one.require(asked, datetime.now(UTC))
        place = calls = 0
        while place < weights:
            left = min(weights - place, 1 << 20)
            place += one.words(asked, streams.WEIGHTS, place, left).size
            calls += 1
        return calls

    answering, calls = seconds_of(answer)
    question = len(json.dumps(asked.plain))
    client = sealing / cohort + masking
    print(f"{cohort:>7} {client:>8.3f} {answering:>8.3f} {calls:>8} {question:>14}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", type=int, default=1_700_000)
    parser.add_argument("--cohorts", type=int, nargs="+", default=[10, 100, 200, 1000])
    parser.add_argument("--bits", type=int, choices=[16, 32], default=32)
    parser.add_argument("--helper", action="store_true", help="the mode `helper`")
    asked = parser.parse_args()
    print(f"{asked.weights} weights, {asked.bits} bits; seconds of one core")
    if asked.helper:
        print(" cohort   client   helper    calls  question bytes")
        for cohort in asked.cohorts:
            measure_helper(cohort, asked.weights, asked.bits)
        return
    print(" cohort  lost  degree   client  masking  coordinator  streams  bytes/weight up")
    for cohort in asked.cohorts:
        measure(cohort, asked.weights, asked.bits)


if __name__ == "__main__":
    main()
