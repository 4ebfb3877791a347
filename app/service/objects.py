"""Domain objects out of their documents' bodies."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from app.domain.cost import Usage
from app.domain.experiment import (
    Best,
    BudgetChange,
    Config,
    Experiment,
    ExperimentState,
    Pause,
    Rotation,
)
from app.domain.records import Client, ModelVersion, Update
from app.domain.round import Attempt, Cut, Lease, Round, RoundState
from app.service.partials import blob_of
from app.store.port import Document


# Each call reads its experiment, and to check its settings takes longer than to read them. Typed:
# 1 and 1.0 are equal, and not the same JSON.
@lru_cache(256, typed=True)
def _config(**settings: Any) -> Config:
    return Config(**settings)


def experiment(found: Document) -> Experiment:
    body = found.body
    return Experiment(
        **{
            **body,
            "revision": found.revision,
            "config": _config(**body["config"]),
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


# What was made of a document holds for as long as the store gives the same object again; for one
# that never does, the latest few are kept in vain.
known_experiment = lru_cache(64)(experiment)
known_client = lru_cache(1024)(client)
known_round = lru_cache(64)(round)
known_update = lru_cache(1024)(update)
known_model = lru_cache(16)(model)
