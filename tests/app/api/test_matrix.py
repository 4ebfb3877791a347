"""Every endpoint against every kind of caller: no one reaches what isn't theirs."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from app.config import Settings
from app.main import create_app
from app.service.coordinator import Coordinator
from app.service.people.keys import read_keys
from tests.support.federation import ADMIN_KEY, Federation, config, key_of, weights
from tests.support.plain_http import bearer
from tests.support.some import some

PREVIOUS_KEY = "the-admin-key-of-last-year"
DATA = weights(1.0)
SHA256 = hashlib.sha256(DATA).hexdigest()
COMMIT = {"sha256": SHA256, "parts": [SHA256]}

# Headers that name nobody. The last ones are bytes that no client library of ours would send.
NOBODIES: dict[str, bytes | None] = {
    "nobody": None,
    "wrong key": b"Bearer " + b"w" * 43,
    "no scheme": b"garbage",
    "another scheme": b"Basic YWRtaW46YWRtaW4=",
    "empty": b"Bearer ",
    "two words": b"Bearer a b",
    "not ASCII": b"Bearer \xff\xfe\xe9",
    "a slot like none": b"Bearer 99999999999.tok_x",
    "a slot in other digits": "Bearer \N{ARABIC-INDIC DIGIT ZERO}.tok_x".encode(),
    "an empty slot": b"Bearer 9.tok_x",
    "a hash": b"",  # filled in: what the store holds, as if it were the token
}
STRANGERS = ("another experiment's client", "another experiment's enrolment key")
ADMINS = ("admin", "admin, previous key")
OWNERS = ("owner", *ADMINS)
PEOPLE = ("another owner", "reader", *OWNERS)
KEYS = {  # of people beside the admin
    "owner": ("alice", "the-key-of-alice-the-owner"),
    "another owner": ("bob", "the-key-of-bob-another-owner"),
    "reader": ("carol", "the-key-of-carol-the-reader"),
}


@dataclass
class World:
    """A running experiment, another one, and everyone's credentials."""

    federation: Federation
    experiment: str
    awaiting: str  # an experiment without its initial model
    cohort: list[str]
    client_key: str
    headers: dict[str, bytes | None] = field(default_factory=dict)


async def build(federation) -> World:
    keys = read_keys(
        f"{name}:{who.split()[-1]}:{hashlib.sha256(key.encode()).hexdigest()}"
        for who, (name, key) in KEYS.items()
    )
    context = federation.app.state.coordinator.context
    coordinator = Coordinator(context, ADMIN_KEY, PREVIOUS_KEY, keys)
    federation.app.state.coordinator = coordinator
    admin, federation.admin = federation.admin, federation.admin.using(KEYS["owner"][1])
    settings = {"clients": 5, "clients_per_round": 2, "download_encoding": "int8"}
    experiment, key = await federation.create(**settings)
    members = {m.id: m for m in [await federation.enrol(experiment, key, n) for n in range(5)]}
    awaiting = await federation.admin.create_experiment("x", config(rounds=3), "awaiting-model")
    federation.admin = admin
    other, other_key = await federation.create(rounds=7)
    stranger = await federation.enrol(other, other_key, 0)
    cohort = await federation.cohort(experiment)
    idle = [client for client in members if client not in cohort]
    await federation.admin.revoke_client(experiment, idle[1])
    stored = await coordinator.context.repo.client(experiment, int(cohort[0][-2:]))
    own = members[cohort[0]].api.connection.key
    secrets = {
        "own client": own,
        "another client": members[idle[0]].api.connection.key,
        "revoked client": members[idle[1]].api.connection.key,
        "enrolment key": key,
        "admin": ADMIN_KEY,
        "admin, previous key": PREVIOUS_KEY,
        **{who: key for who, (_, key) in KEYS.items()},
        "another experiment's client": stranger.api.connection.key,
        "another experiment's enrolment key": other_key,
        "a hash": f"{own.split('.')[0]}.tok_{stored.token_hash}",
    }
    headers = NOBODIES | {who: f"Bearer {secret}".encode() for who, secret in secrets.items()}
    number = int(cohort[0][-2:])
    client_key = key_of(number)
    return World(federation, experiment, awaiting.id, cohort, client_key, headers)


CALLERS = (
    *NOBODIES,
    *STRANGERS,
    *("own client", "another client", "revoked client", "enrolment key"),
    *PEOPLE,
)


def only(status: int, *callers: str, **others: int) -> dict[str, int]:
    """`status` for these callers, 401 for the rest, but for those named with _ for a space."""
    return {who: status if who in callers else 401 for who in CALLERS} | {
        name.replace("_", " "): code for name, code in others.items()
    }


def all_of(status: int) -> dict[str, int]:
    return only(status, *CALLERS)


def people(status: int, *callers: str) -> dict[str, int]:
    """`status` for these people, 403 for the others, and 401 for those that are none."""
    return only(status, *callers) | {who: 403 for who in PEOPLE if who not in callers}


def owners(status: int = 200) -> dict[str, int]:
    return people(status, *OWNERS)


def members(status: int = 200, **others: int) -> dict[str, int]:
    """Those of the experiment, and readers."""
    return only(status, *MEMBERS, another_owner=403, **others)


MEMBERS = ("own client", "another client", "enrolment key", "reader", *OWNERS)
CLIENTS = ("own client", "another client")


@dataclass
class Row:
    """A request that is right in all but its caller, and what each caller gets."""

    expected: dict[str, int]
    json: Callable[[World], Any] | None = None
    content: bytes | None = None
    params: dict[str, str] = field(default_factory=dict)
    number: int = 1
    awaiting: bool = False
    ended: bool = False


E = "/v1/experiments/{experiment_id}"
PART = {"content": DATA, "params": {"sha256": SHA256}}
AT_ONCE = {"content": DATA, "params": {"sha256": SHA256, "num_examples": "3"}}
ANNOUNCE = {"parts": [{"number": 0, "sha256": SHA256, "size": len(DATA)}]}
ROWS: dict[tuple[str, str], Row] = {
    ("GET", "/"): Row(all_of(200)),
    ("GET", "/static/{digest}/{name:path}"): Row(all_of(200)),
    ("GET", "/static/onnx/{name}"): Row(all_of(404)),  # 404: the operator has provided none
    ("GET", "/health"): Row(all_of(200)),
    ("GET", "/ready"): Row(all_of(200)),
    ("GET", "/metrics"): Row(all_of(200)),
    ("GET", "/v1/key"): Row(only(204, *PEOPLE)),
    ("GET", "/v1/me"): Row(only(200, *PEOPLE)),
    ("GET", "/docs"): Row(all_of(200)),
    ("GET", "/openapi.json"): Row(all_of(200)),
    ("GET", "/v1/experiments"): Row(all_of(200)),
    ("POST", "/v1/experiments"): Row(
        people(201, "another owner", *OWNERS), json=lambda w: {"config": config().model_dump()}
    ),
    ("GET", E): Row(all_of(200)),
    ("PUT", f"{E}/initial-model/parts/{{number}}"): Row(owners(), awaiting=True, **PART),
    ("POST", f"{E}/initial-model/parts"): Row(owners(), json=lambda w: ANNOUNCE, awaiting=True),
    ("POST", f"{E}/initial-model"): Row(  # 409: the parts were not sent
        owners(409), json=lambda w: COMMIT, awaiting=True
    ),
    ("POST", f"{E}/pause"): Row(owners()),
    ("POST", f"{E}/resume"): Row(owners(), json=lambda w: {"budget_usd": 5.0}),
    ("POST", f"{E}/stop"): Row(owners()),
    ("PATCH", E): Row(owners(), json=lambda w: {"name": "another"}),
    ("DELETE", E): Row(owners(409)),  # 409: it runs; what an owner deletes is in test_deletion.py
    ("GET", f"{E}/events"): Row(all_of(200), ended=True),
    ("GET", f"{E}/clients"): Row(all_of(200)),
    ("POST", f"{E}/clients/{{client_id}}/revoke"): Row(owners()),
    ("GET", f"{E}/enrolment-key"): Row(owners()),
    ("POST", f"{E}/enrolment-key"): Row(owners()),
    ("GET", f"{E}/noise-secret"): Row(owners(409)),  # 409: it has no noise
    ("GET", f"{E}/audit"): Row(people(200, "reader", *OWNERS)),
    ("GET", f"{E}/rounds/{{number}}"): Row(all_of(200)),
    ("GET", f"{E}/rounds/{{number}}/updates/{{slot}}"): Row(owners(404)),  # 404: none is kept
    ("GET", f"{E}/models"): Row(all_of(200)),
    ("GET", f"{E}/models/latest"): Row(members()),
    ("GET", f"{E}/models/{{version}}"): Row(members()),
    ("GET", f"{E}/models/{{version}}/parts"): Row(members()),
    ("GET", f"{E}/models/{{version}}/encoded"): Row(members()),
    ("GET", f"{E}/models/{{version}}/encoded/parts"): Row(members()),
    # 404: FedAvg has no state.
    ("GET", f"{E}/models/{{version}}/state/{{name}}"): Row(members(404)),
    ("GET", f"{E}/models/{{version}}/state/{{name}}/parts"): Row(members(404)),
    ("POST", f"{E}/models/{{version}}/evaluations"): Row(
        members(enrolment_key=403, reader=403),
        json=lambda w: {"num_examples": 5, "metrics": {"loss": 0.5}},
    ),
    ("POST", f"{E}/clients"): Row(  # 409: every slot is taken
        only(409, "enrolment key"), json=lambda w: {"client_key": "n" * 40}
    ),
    # The client key is the own client's: another client's token does not go with it.
    ("POST", f"{E}/token"): Row(
        only(200, "own client"), json=lambda w: {"client_key": w.client_key}
    ),
    ("GET", f"{E}/agreement"): Row(members(409)),  # 409: it shares out a common data set
    ("PUT", f"{E}/label-counts"): Row(  # 409: it does not ask for them
        only(409, *CLIENTS), json=lambda w: {"counts": {"0": 1}}
    ),
    ("GET", f"{E}/shard"): Row(only(200, *CLIENTS)),
    ("GET", f"{E}/status"): Row(only(200, *CLIENTS)),
    # 409: not in the cohort.
    # 404 and 409: the round has no masks.
    ("GET", f"{E}/rounds/{{number}}/masking"): Row(only(404, *CLIENTS)),
    ("GET", f"{E}/rounds/{{number}}/unmasking"): Row(owners(404)),
    ("GET", f"{E}/rounds/{{number}}/helper-words"): Row(
        owners(404), params={"first": "0", "count": "1"}
    ),
    ("POST", f"{E}/rounds/{{number}}/masking/keys"): Row(
        only(409, *CLIENTS),
        json=lambda w: {"attempt": 1, "box_key": "a" * 64, "mask_key": "b" * 64},
    ),
    ("POST", f"{E}/rounds/{{number}}/masking/boxes"): Row(
        only(409, *CLIENTS), json=lambda w: {"attempt": 1, "boxes": []}
    ),
    ("POST", f"{E}/rounds/{{number}}/masking/confirmation"): Row(
        only(409, *CLIENTS), json=lambda w: {"attempt": 1, "signature": "a" * 128}
    ),
    ("POST", f"{E}/rounds/{{number}}/masking/answer"): Row(
        only(409, *CLIENTS), json=lambda w: {"attempt": 1, "seeds": [], "keys": []}
    ),
    ("PUT", f"{E}/rounds/{{number}}/update"): Row(
        only(200, "own client", another_client=409), **AT_ONCE
    ),
    ("PUT", f"{E}/rounds/{{number}}/update/parts/{{part}}"): Row(
        only(200, "own client", another_client=409), **PART
    ),
    ("POST", f"{E}/rounds/{{number}}/update/parts"): Row(
        only(200, "own client", another_client=409), json=lambda w: ANNOUNCE
    ),
    ("POST", f"{E}/rounds/{{number}}/update"): Row(  # 409: the parts were not sent
        only(409, "own client", another_client=409),
        json=lambda w: COMMIT | {"num_examples": 3},
    ),
}


def test_every_route_has_its_row():
    app = create_app(Settings(admin_key=ADMIN_KEY))
    routes = {
        (method, context.path)
        for context in iter_route_contexts(app.routes)
        for method in (context.methods or {"GET"}) - {"HEAD", "OPTIONS"}
    }
    assert routes == ROWS.keys()


@pytest.mark.parametrize(("method", "template"), ROWS, ids=lambda value: value)
async def test_each_caller_gets_what_is_theirs(federation, method, template):
    world, row = await build(federation), ROWS[method, template]
    if row.ended:  # or the stream of its events would go on for ever
        await federation.admin.stop_experiment(world.experiment)
    path = template.replace(":path", "").format(
        experiment_id=world.awaiting if row.awaiting else world.experiment,
        number=0 if row.awaiting else 1,
        part=0,
        slot=0,
        digest="0",
        name="first_moment" if "/state/" in template else "page.css",
        version=0,
        client_id=world.cohort[1],
    )
    got = {}
    # Who is refused comes first: what they asked for must not have happened.
    for who in sorted(CALLERS, key=lambda who: row.expected[who] < 400):
        header = world.headers[who]
        answer = await federation.http.request(
            method,
            path,
            json=row.json(world) if row.json else None,
            content=row.content,
            params=row.params,
            headers={} if header is None else {b"Authorization": header},
        )
        got[who] = answer.status_code
        if answer.status_code == 401:
            problem = answer.json()
            # An admin's door does not ask whose token it is, and /token whose key it is first.
            asked = row.expected["another client"] != 401
            revoked = who == "revoked client" and asked
            assert problem["code"] == ("revoked" if revoked else "unauthenticated"), who
            assert answer.headers["www-authenticate"] == "Bearer"
            text = (header or b"").partition(b" ")[2].decode("latin-1")
            assert not text or len(text) < 10 or text not in answer.text, "the secret came back"
    assert got == row.expected


async def test_a_client_is_told_of_itself_only(federation):
    experiment, members = await federation.start()
    for name, member in members.items():
        assert (await member.api.shard(experiment)).client_id == name
    cohort = await federation.cohort(experiment)
    for name in some(cohort):
        assert (await members[name].upload(1, 1.0)).client_id == name
    shown = await federation.admin.round(experiment, 1)
    assert [update.client for update in shown.updates] == cohort


async def test_one_clients_parts_do_not_serve_anothers_commit(federation):
    """Parts lie under the client that brought them: nobody commits what another has sent."""
    experiment, members = await federation.start()
    one, two = await federation.cohort(experiment)
    path = f"/v1/experiments/{experiment}/rounds/1/update"

    def as_client(name):
        return bearer(members[name].token)

    put = await federation.http.put(
        f"{path}/parts/0", params={"sha256": SHA256}, content=DATA, headers=as_client(one)
    )
    assert put.status_code == 200
    commit = COMMIT | {"num_examples": 3}
    stolen = await federation.http.post(path, json=commit, headers=as_client(two))
    assert (stolen.status_code, stolen.json()["code"]) == (409, "parts-missing")
    own = await federation.http.post(path, json=commit, headers=as_client(one))
    assert own.status_code == 200
