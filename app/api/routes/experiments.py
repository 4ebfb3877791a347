"""Routes for admins and owners, who run experiments, and for everybody, who may watch them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path, Query, Request, Response

from app.api.bodies.experiments import (
    client_body,
    created_body,
    experiment_body,
    line_body,
    origin_of,
)
from app.api.bodies.models import commit_of, model_body
from app.api.bodies.parts import parts_of, plan_body
from app.api.bodies.rounds import round_body
from app.api.edge.auth import (
    EXPERIMENT,
    CallingPerson,
    CreatorName,
    ExperimentId,
    OwnerName,
    OwnersOnly,
    RoundNumber,
    RoundViewers,
    Service,
    Viewers,
    creator_first,
    may_see_rounds,
    owner_first,
)
from app.api.edge.errors import responses
from app.api.edge.routing import LIST_BYTES, router, takes_body
from app.api.edge.transfers import (
    OCTETS,
    WEIGHTS,
    PartNumber,
    PartSha256,
    part_of,
    weights_response,
)
from serverless_fl.wire import parts, schema, views
from serverless_fl.wire.bounds import MAX_ROUNDS

creating = router("/experiments", tags=["Run an experiment"])
owned = router("/experiments", tags=["Run an experiment"], dependencies=[OwnersOnly])
reading = router("/experiments", tags=["Watch"], dependencies=[Viewers])
key = router(tags=["Run an experiment"])
routers = (creating, owned, reading, key)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=8,
        max_length=200,
        description="A retry with the same key returns the same experiment and makes no second one",
    ),
]


@creating.post(
    "",
    status_code=201,
    summary="Create an experiment",
    responses=responses(401, 403, 409, 422, 503),
)
async def create_experiment(
    service: Service,
    request: schema.CreateExperiment,
    caller: CallingPerson,
    by: CreatorName,
    idempotency_key: IdempotencyKey = None,
) -> schema.CreatedExperiment:
    """The experiment awaits its initial weights: upload them in parts, then commit them. Clients
    can enrol only after that. Whoever creates it owns it.
    """
    if idempotency_key is not None and not caller.is_admin:
        idempotency_key = f"{by}\n{idempotency_key}"  # another person's key is another key
    config = request.config.completed().to_config()
    experiment, key = await service.experiments.create(
        request.name, config, idempotency_key, by, origin_of(request.origin)
    )
    return created_body(experiment, key, service)


takes_body(creating, creator_first)


@owned.put(
    "/{experiment_id}/initial-model/parts/{number}",
    summary="Upload a part of the initial weights",
    responses=responses(401, 403, 404, 409, 422, 503),
    openapi_extra=OCTETS,
)
async def put_initial_part(
    service: Service,
    experiment_id: ExperimentId,
    number: PartNumber,
    sha256: PartSha256,
    request: Request,
) -> schema.PartReceipt:
    """Parts may be sent in any order, and repeatedly."""
    data = await part_of(request, service)
    await service.experiments.store_initial_part(experiment_id, number, sha256, data)
    return schema.PartReceipt(number=number, sha256=sha256, size=len(data))


takes_body(owned, owner_first)


@owned.post(
    "/{experiment_id}/initial-model/parts",
    summary="Announce parts of the initial weights",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def announce_initial_parts(
    service: Service, experiment_id: ExperimentId, request: parts.PartAnnouncements
) -> list[parts.PartPlan]:
    """Tells which parts are stored already, and where to send the others: so an interrupted upload
    continues.
    """
    plans = await service.experiments.plan_initial_parts(experiment_id, parts_of(request))
    return [plan_body(plan) for plan in plans]


takes_body(owned, owner_first)


@owned.post(
    "/{experiment_id}/initial-model",
    summary="Commit the initial weights and open the enrolment",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def commit_initial_model(
    service: Service, experiment_id: ExperimentId, commit: schema.WeightsCommit, by: OwnerName
) -> views.ModelView:
    """The weights become model version 0. Every update must have the same tensors."""
    model = await service.experiments.commit_initial(experiment_id, commit_of(commit), by)
    return model_body(model)


takes_body(owned, owner_first, most=LIST_BYTES)


@owned.post(
    "/{experiment_id}/pause",
    summary="Pause an experiment",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def pause_experiment(
    service: Service, experiment_id: ExperimentId, by: OwnerName
) -> views.ExperimentView:
    """The experiment pauses when the open round is closed: nothing is lost, and clients are told to
    wait. It also pauses by itself when its estimated cost has reached `budget_usd`, and before a
    round that could go beyond `budget_epsilon`.
    """
    await service.pausing.pause(experiment_id, by)
    return experiment_body(await service.views.experiment(experiment_id))


@owned.post(
    "/{experiment_id}/resume",
    summary="Resume an experiment, or change its budget or its rounds",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def resume_experiment(
    service: Service,
    experiment_id: ExperimentId,
    by: OwnerName,
    request: schema.Resume | None = None,
) -> views.ExperimentView:
    """Opens the next round. Answers 409 with the code `budget-reached` if the estimated cost is not
    below the budget, or if another round could go beyond that of privacy: send a higher one. With
    more `rounds` than it has, an experiment whose rounds are all closed runs again, and an open one
    goes on for longer. Its clients are told so when they ask; those that have left take part again
    with the same key.
    """
    asked = request or schema.Resume()
    await service.pausing.resume(
        experiment_id, asked.budget_usd, by, asked.rounds, asked.budget_epsilon
    )
    return experiment_body(await service.views.experiment(experiment_id))


takes_body(owned, owner_first)


@owned.post(
    "/{experiment_id}/stop",
    summary="Stop an experiment",
    responses=responses(401, 403, 404, 422, 503),
)
async def stop_experiment(
    service: Service, experiment_id: ExperimentId, caller: CallingPerson, by: OwnerName
) -> views.ExperimentView:
    """The models stay. An experiment that has ended does not change."""
    # Everybody may read the reason, so it names nobody; the audit log does.
    who = "the admin" if caller.is_admin else "its owner"
    await service.experiments.stop(experiment_id, f"Stopped by {who}.", by)
    return experiment_body(await service.views.experiment(experiment_id))


@owned.patch(
    "/{experiment_id}",
    summary="Rename an experiment, or change how long it stays",
    responses=responses(401, 403, 404, 422, 503),
)
async def change_experiment(
    service: Service,
    experiment_id: ExperimentId,
    by: OwnerName,
    request: schema.ChangeExperiment,
) -> views.ExperimentView:
    """Both are possible at any time. An ended experiment is deleted `keep_days` days after its end,
    as by `DELETE`; with `null` it stays until somebody deletes it.
    """
    if "name" in request.model_fields_set:
        await service.keeping.rename(experiment_id, request.name, by)
    if "keep_days" in request.model_fields_set:
        await service.keeping.keep(experiment_id, request.keep_days, by)
    return experiment_body(await service.views.experiment(experiment_id))


takes_body(owned, owner_first)


@owned.delete(
    "/{experiment_id}",
    status_code=204,
    summary="Delete an experiment",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def delete_experiment(
    service: Service,
    experiment_id: ExperimentId,
    by: OwnerName,
    stop: Annotated[bool, Query(description="Stop it first, if it has not ended")] = False,
) -> None:
    """Deletes its models, updates, clients and records for good. After the answer no call finds the
    experiment; large files leave the store within minutes. Answers 409 with the code `not-ended` if
    the experiment has not ended and `stop` is not true. Safe to repeat.
    """
    await service.deletion.delete(experiment_id, by, stop=stop)


@key.get("/key", status_code=204, summary="Check a key", responses=responses(401, 403, 503))
async def check_key(caller: CallingPerson) -> None:
    """Answers 204 if the key is the admin key, or another person's. Changes nothing."""


@key.get(
    "/me",
    summary="Say who calls",
    responses=responses(401, 403, 404, 422, 503),
    response_model_exclude_none=True,
)
async def show_caller(
    service: Service,
    caller: CallingPerson,
    experiment: Annotated[
        str | None,
        Query(
            pattern=f"^{EXPERIMENT.pattern}$",
            description="Say also what it may do in this experiment",
        ),
    ] = None,
) -> views.PersonView:
    """Gives the name under which the key's holder stands in records, and what it may do."""
    shown = views.PersonView(name=caller.name, roles=sorted(caller.roles))
    if experiment is not None:
        found = await service.experiments.find(experiment)
        shown.owns, shown.reads = caller.owns(found), caller.reads(found)
    return shown


@reading.get("", summary="List experiments", responses=responses(422, 503))
async def list_experiments(
    service: Service,
    after: Annotated[str, Query(max_length=40, description="Last id of the previous page")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[views.ExperimentSummary]:
    """Oldest first."""
    return [line_body(experiment) for experiment in await service.views.experiments(after, limit)]


@reading.get("/{experiment_id}", summary="Show an experiment", responses=responses(404, 422, 503))
async def show_experiment(
    request: Request,
    service: Service,
    experiment_id: ExperimentId,
    after_round: Annotated[
        int, Query(ge=0, le=MAX_ROUNDS, description="Leave out the history up to this round")
    ] = 0,
) -> views.ExperimentView:
    """Shows its settings and state, what it waits for, the open round, and the rounds before. If
    its cohorts are secret, rounds and costs are shown to the admin and its owner alone.
    """
    found = await service.views.experiment(experiment_id, after_round)
    seen = await may_see_rounds(request.scope, service, found.experiment)
    return experiment_body(found if seen else found.without_rounds)


@reading.get(
    "/{experiment_id}/clients", summary="List the clients", responses=responses(404, 422, 503)
)
async def list_clients(
    service: Service,
    experiment_id: ExperimentId,
    after: Annotated[int | None, Query(ge=0, description="Last slot of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> list[views.ClientView]:
    return [client_body(c) for c in await service.views.clients(experiment_id, after, limit)]


@reading.get(
    "/{experiment_id}/rounds/{number}",
    summary="Show a round",
    responses=responses(403, 404, 422, 503),
    dependencies=[RoundViewers],
)
async def show_round(
    service: Service,
    experiment_id: ExperimentId,
    number: RoundNumber,
) -> views.RoundView:
    """Shows who was drawn, who has reported, who is missing, and who was refused and why."""
    return round_body(await service.views.round(experiment_id, number))


@owned.get(
    "/{experiment_id}/rounds/{number}/updates/{slot}",
    summary="Download a kept update",
    response_class=Response,
    responses={**WEIGHTS, **responses(401, 403, 404, 416, 422, 503)},
)
async def download_update(
    service: Service,
    experiment_id: ExperimentId,
    number: RoundNumber,
    slot: Annotated[int, Path(ge=0, le=10**6, description="7 of client-07", examples=[7])],
    request: Request,
) -> Response:
    """Answers with an accepted update of one of the last `keep_updates` rounds, from which `verify`
    recomputes a model.
    """
    update = await service.models.update(experiment_id, number, slot)
    return await weights_response(request, service, update.blob)
