"""Domain objects out of documents, and documents' bodies out of domain objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.service.records.memo import Memo
from app.store.port import Document
from serverless_fl.domain.agreement import ColumnSums, Normalisation, Scale
from serverless_fl.domain.experiment import (
    Best,
    BudgetChange,
    Config,
    Experiment,
    ExperimentState,
    Pause,
    Rotation,
)
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.domain.lineage import Extension, Origin
from serverless_fl.domain.prices import Usage
from serverless_fl.domain.records import Blob, Client, ClientCertificate, ModelVersion, Update
from serverless_fl.domain.round import Attempt, Cut, FullGroup, Lease, Round, RoundState
from serverless_fl.domain.task_name import TaskName


def experiment(found: Document) -> Experiment:
    body = found.body
    return Experiment(
        **{
            **body,
            "revision": found.revision,
            "config": Config.of(body["config"]),
            "state": ExperimentState(body["state"]),
            "revoked": tuple(body.get("revoked", ())),
            "rotations": tuple(Rotation(**r) for r in body.get("rotations", ())),
            "usage": Usage(**body.get("usage", {})),
            "pauses": tuple(Pause(**p) for p in body.get("pauses", ())),
            "budgets": tuple(BudgetChange(**b) for b in body.get("budgets", ())),
            "extensions": tuple(Extension(**e) for e in body.get("extensions", ())),
            "origin": Origin(**body["origin"]) if body.get("origin") else None,
            "task": TaskName(**body["task"]) if body.get("task") else None,
            "garbage": tuple(body.get("garbage", ())),
            "ledger": LedgerEntry(**body["ledger"]) if body.get("ledger") else None,
            **{
                name: _best(body[name])
                for name in ("best_held_out", "best_central")
                if body.get(name)
            },
        }
    )


def _best(body: dict[str, Any]) -> Best:
    """Earlier versions knew the accuracy alone, and named it."""
    return Best(
        version=body["version"], value=body["value"] if "value" in body else body["accuracy"]
    )


def client(found: Document) -> Client:
    body = found.body
    changes = tuple(body.get("token_changes", ()))
    sums = tuple(ColumnSums(**s) for s in body.get("sums", ()))
    labels = tuple((label, count) for label, count in body.get("labels", ()))
    shown = ClientCertificate(**body["certificate"]) if body.get("certificate") else None
    return Client(
        **{
            **body,
            "revision": found.revision,
            "token_changes": changes,
            "sums": sums,
            "labels": labels,
            "certificate": shown,
        }
    )


def normalisation(found: Document) -> Normalisation:
    body = found.body
    scales = tuple(Scale(**s) for s in body["scales"])
    return Normalisation(**{**body, "scales": scales, "slots": tuple(body["slots"])})


def round(found: Document) -> Round:
    body = found.body
    return Round(
        **{
            **body,
            "revision": found.revision,
            "state": RoundState(body["state"]),
            "cohort": tuple(body["cohort"]),
            "accepted": tuple(body["accepted"]),
            "revoked": tuple(body.get("revoked", ())),
            "lost": tuple(body.get("lost", ())),
            "weights": tuple(body.get("weights", ())),
            "invited": tuple(body.get("invited", ())),
            "roster": tuple(body.get("roster", ())),
            "wrong_shares": tuple(body.get("wrong_shares", ())),
            "lease": None if body["lease"] is None else Lease(**body["lease"]),
            "cut": Cut(**body["cut"]) if body.get("cut") else None,
            "usage": Usage(**body["usage"]) if body.get("usage") else None,
            "earlier": tuple(_attempt(a) for a in body["earlier"]),
        }
    )


def _attempt(body: dict[str, Any]) -> Attempt:
    names = ("cohort", "reported", "refused", "revoked")
    slots = {name: tuple(body.get(name, ())) for name in names}
    return Attempt(**{**body, **slots})


def full_group(found: Document) -> FullGroup:
    body = {**found.body, "lease": Lease(**found.body["lease"])}
    return FullGroup(**body, revision=found.revision)


def update(found: Document) -> Update:
    return Update(**{**found.body, "blob": blob(found.body["blob"])})


def model(found: Document) -> ModelVersion:
    body = found.body
    others = {n: value for n, value in body.items() if n not in ("blob", "copy", "state", "ledger")}
    compressed = blob(body["copy"]) if body.get("copy") else None
    state = {name: blob(file) for name, file in body.get("state", {}).items()}
    ledger = LedgerEntry(**body["ledger"]) if body.get("ledger") else None
    return ModelVersion(
        **others, blob=blob(body["blob"]), compressed=compressed, state=state, ledger=ledger
    )


def body_of_model(version: ModelVersion) -> dict[str, Any]:
    """As `body_of`. Documents name a compressed model "copy", as they always did."""
    body = body_of(version)
    body["copy"] = body.pop("compressed")
    if body["ledger"] is None:
        del body["ledger"]
    if state := body.pop("state"):
        body["state"] = {name: body_of(file) for name, file in state.items()}
    return body


def blob(body: dict[str, Any]) -> Blob:
    """The reference to a file, which lies inside other documents."""
    return Blob(**{**body, "parts": tuple(body["parts"]), "sizes": tuple(body["sizes"])})


def by_texts(values: Mapping[int, str]) -> dict[str, str]:
    """A mapping by slots in a document, whose names are texts."""
    return {str(slot): value for slot, value in values.items()}


def by_slots(body: Mapping[str, str]) -> dict[int, str]:
    """The mapping of `by_texts`, back."""
    return {int(slot): value for slot, value in body.items()}


def body_of(value: Any) -> dict[str, Any]:
    """The body of an object's document, without the revision: the store counts revisions."""
    body: dict[str, Any] = _plain(value)
    body.pop("revision", None)
    return body


def _plain(value: Any) -> Any:
    """As `dataclasses.asdict`, without its copies: they took a third of the time of a commit."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    if isinstance(value, Config):
        return value.flat()
    return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}


# For reads of single documents. Lists are read too seldom to remember their objects.
known_experiment = Memo(experiment, 64)
known_client = Memo(client, 4096)
known_round = Memo(round, 64)
known_update = Memo(update, 4096)
known_model = Memo(model, 16)
