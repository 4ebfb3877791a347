"""The origin of a model version: hashes of its settings and updates, and the order of its sum.

The coordinator records the hashes, and the SDK's `verify` computes them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.domain.records import Update, client_id


@dataclass(frozen=True)
class Contribution:
    """One accepted update in a model: its client, its bytes' SHA-256 and its examples.

    `scale` is the share of its distance from the base model that clipping left; 1.0 if the update
    was not clipped. `weight` is its weight in the mean; None if that is the number of its examples.
    `base` is the version that the client trained from; None if that is the round's own. `counts`
    are the masked counts of a masked update, and `seal` is its seal if there is a helper.
    """

    client: str
    sha256: str
    num_examples: int
    scale: float = 1.0
    weight: float | None = None
    base: int | None = None
    counts: str = ""
    seal: str = ""


def contribution(update: Update, weight: float | None = None) -> Contribution:
    """Give the entry of an update in the record of the model that it went into."""
    return Contribution(
        client_id(update.slot),
        update.blob.sha256,
        update.num_examples,
        update.scale,
        weight,
        update.base_version,
        update.counts,
        update.seal,
    )


def version_digest(sha256: str, state: Mapping[str, str], ledger: LedgerEntry | None = None) -> str:
    """Give the hash that the next version records as its parent's.

    It is the SHA-256 of the model. If the version has a state or an entry in the ledger of privacy,
    it is that of the model's SHA-256, of those of the state's files by name, and of the entry.
    """
    if ledger is not None:
        return _digest([sha256, sorted(state.items()), ledger.plain])
    return _digest([sha256, sorted(state.items())]) if state else sha256


def config_digest(config: Config) -> str:
    """Give the SHA-256 (hexadecimal) of the settings that have no default or differ from it.

    So the digest stays the same when a later release adds a setting. The budgets and
    `keep_days` are left out, because an admin may change them during the run and no model depends
    on them.
    """
    config = config.without_budget
    defaults = Config.defaults()
    settings = {k: v for k, v in config.flat().items() if k not in defaults or v != defaults[k]}
    return _digest(settings)


def updates_digest(contributions: Iterable[Contribution]) -> str:
    """Give the SHA-256 (hexadecimal) of the accepted updates, in their order."""
    return _digest(
        [
            [
                *(c.client, c.sha256, c.num_examples, c.scale),
                *([] if c.weight is None else [c.weight]),
                *([] if c.base is None else [{"base": c.base}]),
                *([{"counts": c.counts}] if c.counts else []),
                *([{"seal": c.seal}] if c.seal else []),
            ]
            for c in contributions
        ]
    )


def groups(cohort: Iterable[int], slots: Iterable[int], size: int) -> list[list[int]]:
    """Group the slots that reported by their place in the sorted cohort, `size` places a group.

    The aggregation sums in this order and this bracketing. A slot's group does not depend on the
    other slots that reported. Empty groups are left out. An update may also come from a slot of an
    earlier attempt's cohort, while the new cohort is drawn: such slots are the last group.
    """
    members = sorted(cohort)
    place = {slot: number // size for number, slot in enumerate(members)}
    found: dict[int, list[int]] = {}
    for slot in sorted(slots):
        found.setdefault(place.get(slot, len(members)), []).append(slot)
    return [found[number] for number in sorted(found)]


def _digest(value: Sequence[Any] | Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
