"""What HTTP adds: statuses, problem bodies, ranges, limits, and documentation worth browsing."""

import hashlib

import httpx
import pytest

from app.config import Settings
from app.main import create_app
from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from serverless_fl.domain import errors as faults
from tests.support.federation import ADMIN_KEY, config, weights
from tests.support.plain_http import bearer
from tests.support.some import some

BEARER = bearer(ADMIN_KEY)


@pytest.fixture
async def http(federation):
    return federation.http


def is_problem(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"].endswith(".")
    return True


async def test_errors_are_problems(http, federation):
    experiment, _ = await federation.create()
    assert is_problem(await http.get("/v1/experiments/20260101-0-nope"), 404, "not-found")
    assert is_problem(await http.get("/v1/nothing"), 404, "not-found")
    assert is_problem(await http.delete("/v1/experiments"), 405, "method-not-allowed")
    unauthenticated = await http.post(f"/v1/experiments/{experiment}/stop")
    assert is_problem(unauthenticated, 401, "unauthenticated")
    assert unauthenticated.headers["www-authenticate"] == "Bearer"
    wrong = await http.post(
        f"/v1/experiments/{experiment}/stop", headers={"Authorization": "Bearer nope"}
    )
    assert is_problem(wrong, 401, "unauthenticated")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clients": 0}, "clients"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"learning_rate": "NaN"}, "learning_rate"),
        ({"rounds": 1.5}, "rounds"),
        ({"roundz": 3}, "roundz"),
        ({"dataset_size": "40"}, "dataset_size"),
        ({"strategy": "magic"}, "config.strategy: must be one of fedavg, "),
        ({"strategy": {"name": "fedavg", "rate": 1}}, "config.strategy.rate"),
    ],
)
async def test_a_malformed_setting_is_named(http, change, says):
    body = {"config": config().model_dump() | change}
    response = await http.post("/v1/experiments", json=body, headers=BEARER)
    assert is_problem(response, 422, "invalid-request")
    assert says in response.json()["detail"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clients_per_round": 5}, "clients_per_round (5) is more than clients (4)"),
        ({"dataset_size": None}, "dataset_size is missing"),
        ({"data": "own"}, "dataset_size (40) is the size of a common data set, but data (own)"),
        ({"max_examples_per_client": 5}, "max_examples_per_client (5) is about data of the"),
        ({"normalisation": "federated"}, "normalisation (federated) is about data of the"),
        ({"dataset_size": 3}, "3 examples cannot be shared among 4 clients"),
        ({"quorum": 3}, "no round ever closes"),
        ({"min_clients": 1}, "min_clients (1)"),
        ({"min_clients": 5}, "min_clients (5)"),
    ],
)
async def test_settings_that_contradict_each_other_are_explained(http, change, says):
    body = {"config": config().model_dump() | change}
    response = await http.post("/v1/experiments", json=body, headers=BEARER)
    assert is_problem(response, 422, "invalid-config")
    assert says in response.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'"text"', b"[" * 50_000])
async def test_bodies_that_are_no_json_object_are_refused(http, body):
    response = await http.post(
        "/v1/experiments", content=body, headers=BEARER | {"Content-Type": "application/json"}
    )
    assert is_problem(response, 422, "invalid-request")


async def test_an_idempotency_key_makes_one_experiment(http):
    headers = BEARER | {"Idempotency-Key": "once-only"}
    body = {"config": config().model_dump()}
    first = await http.post("/v1/experiments", json=body, headers=headers)
    assert (await http.post("/v1/experiments", json=body, headers=headers)).json() == first.json()
    body["config"]["rounds"] = 7
    other = await http.post("/v1/experiments", json=body, headers=headers)
    assert is_problem(other, 409, "idempotency-key-reused")
    assert len((await http.get("/v1/experiments")).json()) == 1


async def test_without_an_idempotency_key_each_request_makes_one(http):
    for _ in range(2):
        body = {"config": config().model_dump()}
        assert (await http.post("/v1/experiments", json=body, headers=BEARER)).status_code == 201
    assert len((await http.get("/v1/experiments")).json()) == 2


async def test_parts_are_checked_as_they_arrive(http, federation):
    made = await federation.admin.create_experiment("x", config(), "parts-test")
    path = f"/v1/experiments/{made.id}/initial-model"
    data = weights(1)
    right = hashlib.sha256(data).hexdigest()
    put = await http.put(
        f"{path}/parts/0", params={"sha256": "0" * 64}, content=data, headers=BEARER
    )
    assert is_problem(put, 422, "digest-mismatch")
    commit = {"sha256": right, "parts": [right]}
    assert is_problem(await http.post(path, json=commit, headers=BEARER), 409, "parts-missing")
    for _ in range(2):
        put = await http.put(
            f"{path}/parts/0", params={"sha256": right}, content=data, headers=BEARER
        )
        assert put.json() == {"number": 0, "sha256": right, "size": len(data)}
    wrong = {"sha256": "0" * 64, "parts": [right]}
    assert is_problem(await http.post(path, json=wrong, headers=BEARER), 422, "digest-mismatch")
    for _ in range(2):
        assert (await http.post(path, json=commit, headers=BEARER)).json()["version"] == 0


async def test_tiny_parts_without_end_are_refused(http, federation, monkeypatch):
    monkeypatch.setattr("app.service.files.uploads.MAX_PARTS", 5)
    made = await federation.admin.create_experiment("x", config(), "tiny-parts")
    path = f"/v1/experiments/{made.id}/initial-model/parts/0"
    for n in range(11):
        data = bytes([n])
        sha256 = hashlib.sha256(data).hexdigest()
        put = await http.put(path, params={"sha256": sha256}, content=data, headers=BEARER)
        assert put.status_code == 200 if n < 10 else is_problem(put, 409, "quota")


async def test_a_model_in_many_parts_arrives_whole(federation):
    import numpy as np

    data = weights(1, big=np.random.default_rng(0).normal(size=50_000).astype(np.float32))
    made = await federation.admin.create_experiment("x", config(), "many-parts")
    await federation.admin.upload_initial_model(made.id, data, part_bytes=10_007)
    for part_bytes in (9_999, 200_000, 10**7):
        assert await federation.admin.download_model(made.id, 0, part_bytes) == data


async def test_an_initial_model_that_is_no_safetensors_is_refused(federation):
    from client_sdk.errors import RequestRefused

    made = await federation.admin.create_experiment("x", config(), "pickled-model")
    with pytest.raises(RequestRefused) as caught:
        await federation.admin.upload_initial_model(made.id, b"\x80\x04\x95pickle" * 9, 1 << 20)
    assert caught.value.code == "malformed-weights"
    await federation.admin.upload_initial_model(made.id, weights(0), 1 << 20)  # no harm done


async def test_downloads_know_etags_and_ranges(http, federation):
    experiment, key = await federation.create()
    path, data = f"/v1/experiments/{experiment}/models/0", weights(0)

    async def get(**headers):
        names = {k.replace("_", "-"): v for k, v in headers.items()}
        return await http.get(path, headers=bearer(key) | names)

    whole = await get()
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["x-model-version"] == "0"
    etag = whole.headers["etag"]
    assert etag == f'"{hashlib.sha256(data).hexdigest()}"'
    for known in (etag, f'"x", W/{etag}', "*"):
        again = await get(if_none_match=known)
        assert (again.status_code, again.content) == (304, b"")
    size = len(data)
    for wanted, start, stop in (
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, size),
        ("bytes=-7", size - 7, size),
        ("bytes=5-99999", 5, size),
        ("bytes=-99999", 0, size),
    ):
        part = await get(range=wanted)
        assert (part.status_code, part.content) == (206, data[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for ignored in ("bytes=0-1,3-4", "pages=1-2", "bytes=-", "bytes=9-3"):
        assert (await get(range=ignored)).status_code == 200
    assert (await get(range="bytes=0-1", if_range='"other"')).status_code == 200
    beyond = await get(range="bytes=99999-")
    assert is_problem(beyond, 416, "range-not-satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(data)}"
    assert (await http.get(path)).status_code == 401


async def test_evaluations_first_stands(http, federation):
    experiment, members = await federation.start()
    member = next(iter(members.values()))
    path = f"/v1/experiments/{experiment}/models/0/evaluations"
    report = {"num_examples": 9, "metrics": {"loss": 0.5, "accuracy": 0.75}}
    for _ in range(2):
        assert (await http.post(path, json=report, headers=BEARER)).status_code == 200
    await member.api.report_evaluation(experiment, 0, 3, {"loss": 1.0})
    other = report | {"num_examples": 10}
    assert is_problem(await http.post(path, json=other, headers=BEARER), 409, "already-evaluated")
    (model,) = await federation.admin.models(experiment)
    assert [(e.source, e.num_examples) for e in model.evaluations] == [
        ("central", 9),
        (member.id, 3),
    ]
    nan = {"num_examples": 1, "metrics": {"loss": "NaN"}}
    assert is_problem(await http.post(path, json=nan, headers=BEARER), 422, "invalid-request")
    missing = path.replace("/0/", "/7/")
    assert is_problem(await http.post(missing, json=report, headers=BEARER), 404, "not-found")


async def test_bodies_over_the_limit_are_refused_announced_or_not(federation):
    app = create_app(Settings(admin_key=ADMIN_KEY, part_bytes=64 * 1024))
    app.state.coordinator, app.state.admin_key = federation.app.state.coordinator, ADMIN_KEY
    taken = 0

    async def endless():
        nonlocal taken
        for _ in range(1000):
            taken += 10_000
            yield b"x" * 10_000

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://c", headers=BEARER) as http:
        path = "/v1/experiments/x/initial-model/parts/0?sha256=" + "0" * 64
        assert is_problem(await http.put(path, content=b"x" * 70_000), 413, "too-large")
        assert is_problem(await http.put(path, content=endless()), 413, "too-large")
        create = await http.post(
            "/v1/experiments", content=endless(), headers={"Content-Type": "application/json"}
        )
        assert is_problem(create, 413, "too-large")
        assert taken < 200_000


async def test_without_an_admin_key_only_this_machine_is_answered(tmp_path):
    app = create_app(Settings(admin_key=None, data_dir=tmp_path))
    async with app.router.lifespan_context(app):
        key = (tmp_path / "admin-key").read_text(encoding="utf-8")
        assert (tmp_path / "admin-key").stat().st_mode & 0o777 == 0o600
        for address, status in (("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 403)):
            transport = httpx.ASGITransport(app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://c") as http:
                assert (await http.get("/v1/experiments")).status_code == status
        api = CoordinatorClient(
            "http://c", key, retry=Retry(give_up_after=0), transport=httpx.ASGITransport(app)
        )
        async with api:
            assert (await api.create_experiment("x", config(), "with-made-key")).id
    again = create_app(Settings(admin_key=None, data_dir=tmp_path))
    async with again.router.lifespan_context(again):
        assert again.state.admin_key == key


async def test_an_unexpected_error_shows_no_internals_and_is_logged_with_its_id(
    http, federation, caplog
):
    async def broken(*_):
        raise RuntimeError("the secret ingredient")

    federation.app.state.coordinator.views.experiment = broken
    response = await http.get("/v1/experiments/x", headers={"X-Request-ID": "find-me"})
    assert is_problem(response, 500, "internal-error")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "find-me"
    assert "find-me" in caplog.text


@pytest.mark.parametrize(
    ("kind", "code", "seconds", "again"),
    [
        (faults.StoreUnavailable, "store-unavailable", 2, True),
        (faults.StoreDenied, "store-denied", 30, False),
        (faults.StoreMissing, "store-missing", 30, False),
        (faults.WrongStore, "wrong-store", 30, False),
        (faults.StoreRefused, "store-refused", 30, False),
    ],
)
@pytest.mark.parametrize("which", ["The database", "The store of weights"])
async def test_a_fault_of_the_store_is_a_503_that_says_whether_to_try_again_and_names_no_host(
    http, federation, caplog, kind, code, seconds, again, which
):
    said = "cluster0.internal.example:27017 as mongodb://fl:hunter2@cluster0"

    async def away(*_):
        raise kind(said, store=which)

    federation.app.state.coordinator.views.experiment = away
    response = await http.get("/v1/experiments/x")
    assert is_problem(response, 503, code)
    assert int(response.headers["retry-after"]) == seconds
    detail = response.json()["detail"]
    assert detail.startswith(f"{which} ") and ("try again" in detail) is again
    assert not [word for word in said.split() if len(word) > 2 and word in response.text]
    assert said in caplog.text  # the operator needs it


def test_every_operation_is_documented():
    document = create_app(Settings(admin_key=ADMIN_KEY)).openapi()
    tags = {tag["name"] for tag in document["tags"]}
    for path, operations in some(document["paths"].items()):
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert set(operation["tags"]) <= tags
            if path.startswith("/v1"):
                assert {"413", "503"} <= operation["responses"].keys(), (method, path)
                for status, response in some(operation["responses"].items()):
                    assert response["description"], (method, path, status)
                    if status >= "400":
                        assert list(response["content"]) == ["application/problem+json"]
