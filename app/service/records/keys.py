"""Names: of documents by their numbers, and of blobs by what they belong to."""

from __future__ import annotations

from functools import lru_cache

from serverless_fl.domain.records import Cell
from serverless_fl.domain.round import Round

SLOT_DIGITS = 7  # of every number in a key


@lru_cache(4096)  # the same few for each poll
def key_of(experiment_id: str, *numbers: int) -> str:
    """Numbers are padded, so that keys sort as numbers do."""
    return "/".join([experiment_id, *(f"{n:0{SLOT_DIGITS}d}" for n in numbers)])


def client_key(experiment_id: str, slot: int) -> str:
    """The place of a client in `clients`, for paging."""
    return key_of(experiment_id, slot)


def round_blobs(experiment_id: str, number: int) -> str:
    """The blob prefix of a round's updates."""
    return f"uploads/{experiment_id}/{number:0{SLOT_DIGITS}d}/"


def round_sums(experiment_id: str, number: int) -> str:
    """The blob prefix of what an aggregation kept of a round for itself."""
    return f"{round_blobs(experiment_id, number)}sums/"


def round_of(key: str) -> tuple[str, int] | None:
    """The experiment and the round of a key under `round_blobs`; None for what is not ours."""
    match key.split("/"):
        case ["uploads", experiment_id, number, _, *_] if number.isascii() and number.isdigit():
            return experiment_id, int(number)
    return None


def update_blob(experiment_id: str, number: int, slot: int) -> str:
    return f"{round_blobs(experiment_id, number)}{slot:0{SLOT_DIGITS}d}"


def sums_blob(experiment_id: str, number: int, cell: Cell) -> str:
    return f"{round_sums(experiment_id, number)}{cell.span:05d}-{cell.digest[:32]}"


def model_blob(experiment_id: str, version: int) -> str:
    return f"models/{experiment_id}/{version:0{SLOT_DIGITS}d}"


def model_parts(round_: Round) -> str:
    """Where an aggregation stores the parts of its model. They are of one list of updates: where
    one of these was lost they stand elsewhere, and a process that is late cannot mix them up.
    """
    prefix = model_blob(round_.experiment_id, round_.number)
    return f"{prefix}/without-{len(round_.lost)}" if round_.lost else prefix


def copy_blob(experiment_id: str, version: int) -> str:
    """The blob prefix of what clients are sent of a model, where that is another file."""
    return f"copies/{experiment_id}/{version:0{SLOT_DIGITS}d}"


def all_blobs(experiment_id: str) -> list[str]:
    """The blob prefixes under which an experiment keeps anything."""
    return [f"{kind}/{experiment_id}/" for kind in ("uploads", "models", "copies")]
