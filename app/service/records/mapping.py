"""Domain objects out of their documents' bodies."""

from __future__ import annotations

from typing import Any

from app.service.records.memo import Memo
from app.service.records.partials import blob_of
from app.store.port import Document
from serverless_fl.domain.experiment import (
    Best,
    BudgetChange,
    Config,
    Experiment,
    ExperimentState,
    Pause,
    Rotation,
)
from serverless_fl.domain.prices import Usage
from serverless_fl.domain.records import Client, ModelVersion, Update
from serverless_fl.domain.round import Attempt, Cut, Lease, Round, RoundState


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
            "garbage": tuple(body.get("garbage", ())),
            **{
                name: Best(**body[name])
                for name in ("best_held_out", "best_central")
                if body.get(name)
            },
        }
    )


def client(found: Document) -> Client:
    body = found.body
    changes = tuple(body.get("token_changes", ()))
    return Client(**{**body, "revision": found.revision, "token_changes": changes})


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


def update(found: Document) -> Update:
    return Update(**{**found.body, "blob": blob_of(found.body["blob"])})


def model(found: Document) -> ModelVersion:
    body = found.body
    copy = blob_of(body["copy"]) if body.get("copy") else None
    return ModelVersion(**{**body, "blob": blob_of(body["blob"]), "copy": copy})


# For reads of one document; lists of them are read too seldom to be remembered.
known_experiment = Memo(experiment, 64)
known_client = Memo(client, 1024)
known_round = Memo(round, 64)
known_update = Memo(update, 1024)
known_model = Memo(model, 16)
