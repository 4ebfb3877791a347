"""Names of documents and of blobs."""

from __future__ import annotations

from functools import lru_cache

from serverless_fl.domain.records import Cell
from serverless_fl.domain.round import Round

SLOT_DIGITS = 7  # of every number in a key


@lru_cache(4096)  # polls ask for the same few again and again
def key_of(experiment_id: str, *numbers: int) -> str:
    """The key of a document. Numbers are padded, so that keys sort as the numbers do."""
    return "/".join([experiment_id, *(f"{n:0{SLOT_DIGITS}d}" for n in numbers)])


def updates_of(experiment_id: str, number: int, attempt: int = 0) -> str:
    """The prefix of the keys of a round's updates: of all attempts, or of one (`attempt`)."""
    own = f".{attempt:0{SLOT_DIGITS}d}" if attempt else ""
    return f"{key_of(experiment_id, number)}{own}/"


def of_slot(prefix: str, slot: int) -> str:
    """The key of a slot's document below a prefix."""
    return f"{prefix}{slot:0{SLOT_DIGITS}d}"


def attempt_key(round_: Round) -> str:
    """The prefix of the keys of what belongs to a round's attempt."""
    return f"{key_of(round_.experiment_id, round_.number, round_.attempt)}/"


def client_key(experiment_id: str, slot: int) -> str:
    """The key of a client, from which a page of clients goes on."""
    return key_of(experiment_id, slot)


def round_blobs(experiment_id: str, number: int) -> str:
    """The blob prefix of a round's updates."""
    return f"uploads/{experiment_id}/{number:0{SLOT_DIGITS}d}/"


def round_sums(experiment_id: str, number: int) -> str:
    """The blob prefix of a round's stored sums."""
    return f"{round_blobs(experiment_id, number)}sums/"


def round_of(key: str) -> tuple[str, int] | None:
    """The experiment and the round of a key under `round_blobs`; None for any other key."""
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
    """The blob prefix of a round's new model. It changes with each update that is lost, and with
    each attempt of masked updates, so a late process cannot mix parts of two lists of updates.
    """
    prefix = model_blob(round_.experiment_id, round_.number)
    if round_.updates_attempt > 1:
        prefix = f"{prefix}/attempt-{round_.attempt}"
    return f"{prefix}/without-{len(round_.lost)}" if round_.lost else prefix


def state_blob(model: str, name: str) -> str:
    """The blob prefix of an array of a strategy's state, beside the parts of its model."""
    return f"{model}/state/{name}"


def compressed_blob(experiment_id: str, version: int) -> str:
    """The blob prefix of a version's compressed model."""
    return f"copies/{experiment_id}/{version:0{SLOT_DIGITS}d}"


def all_blobs(experiment_id: str) -> list[str]:
    """All blob prefixes of an experiment."""
    return [f"{kind}/{experiment_id}/" for kind in ("uploads", "models", "copies")]
