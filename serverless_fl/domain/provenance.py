"""What a model came of, as hashes that anyone can compute again, and the order of its making.

Standard library only: the coordinator records these, and the SDK's `verify` recomputes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.records import Update, client_id


@dataclass(frozen=True)
class Contribution:
    """An accepted update as it went into a model: whose, which bytes, with what weight.

    `scale` is what was left of its distance from the base model; 1.0 where nothing was clipped.
    """

    client: str
    sha256: str
    num_examples: int
    scale: float = 1.0


def contribution(update: Update) -> Contribution:
    """How an update stands in the record of the model that it went into."""
    return Contribution(
        client_id(update.slot), update.blob.sha256, update.num_examples, update.scale
    )


def config_digest(config: Config) -> str:
    """SHA-256 of the settings that differ from the defaults, and of those that have none.

    So it stays the same where a later version knows more settings. The budget is left out: it may
    be changed, and no model depends on it.
    """
    config = config.of_training
    defaults = {f.name: f.default for f in fields(Config) if f.default is not MISSING}
    settings = {k: v for k, v in config.flat().items() if k not in defaults or v != defaults[k]}
    return _digest(settings)


def updates_digest(contributions: Iterable[Contribution]) -> str:
    """SHA-256 of the accepted updates in their order."""
    return _digest([[c.client, c.sha256, c.num_examples, c.scale] for c in contributions])


def groups(cohort: Iterable[int], slots: Iterable[int], size: int) -> list[list[int]]:
    """The slots that reported, by their place in the sorted cohort, so many places a group.

    This is the order and the bracketing of an aggregation. Who is in a group does not depend on
    who else reported; empty groups are left out. Slots of an earlier attempt's cohort, whose
    updates came while the new one was drawn, are a last group.
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
