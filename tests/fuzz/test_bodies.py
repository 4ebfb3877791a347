"""JSON that is broken, deep, wide, huge or of the wrong kind is a 4xx problem, never a 500."""

import gzip
import hashlib
import json
import zlib

import pytest

from tests.support.federation import ADMIN_KEY, config

# What is judged here never reaches a store: one of them is enough.
GOOD = {"config": config().model_dump(mode="json")}


def is_problem(response):
    assert 400 <= response.status_code < 500, (response.status_code, response.text[:300])
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["detail"]
    assert len(response.content) < 20_000
    return True


def with_config(**changes) -> bytes:
    return json.dumps({"config": GOOD["config"] | changes}).encode()


BROKEN = {
    "deep lists": b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep metrics": b'{"metrics": ' + b'{"a":' * 100_000,
    "wide object": b"{" + b",".join(b'"k%d":1' % n for n in range(20_000)) + b"}",
    "wide list": b'{"parts": [' + b"1," * 100_000 + b"1]}",
    "long digits": b'{"config": {"rounds": ' + b"9" * 100_000 + b"}}",
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "NUL": b"\0" * 1000,
    "a lone surrogate as value": with_config(dataset="\ud800"),
    "a lone surrogate as key": b'{"\\ud800": 1}',
    "a lone surrogate as metric": b'{"num_examples": 1, "metrics": {"\\udfff": 1}}',
    "NaN": b'{"config": {"rounds": NaN}}',
    "truncated": json.dumps(GOOD).encode()[:-3],
    "a string": b'"x"',
    "nothing": b"",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_json_is_a_problem(federation, name):
    experiment, members = await federation.start()
    member = members[(await federation.cohort(experiment))[0]]
    path = f"/v1/experiments/{experiment}"
    for url, key in (
        ("/v1/experiments", ADMIN_KEY),
        (f"{path}/clients", "any"),
        (f"{path}/rounds/1/update", member.api.connection.key),
        (f"{path}/rounds/1/update/parts", member.api.connection.key),
        (f"{path}/initial-model", ADMIN_KEY),
        (f"{path}/models/0/evaluations", ADMIN_KEY),
    ):
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        assert is_problem(await federation.http.post(url, content=BROKEN[name], headers=headers))


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": True},
        {"rounds": "20"},
        {"rounds": 20.0},
        {"rounds": 10**40},
        {"rounds": -1},
        {"rounds": [3]},
        {"seed": 2**63},
        {"seed": "0"},
        {"learning_rate": "0.1"},
        {"learning_rate": True},
        {"learning_rate": 1e400},
        {"deadline_seconds": "60"},
        {"quorum": False},
        {"dataset": 7},
        {"dataset": "x" * 201},
        {"model": None},
    ],
)
async def test_numbers_are_numbers_and_text_is_text(federation, change):
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
    (name,) = change
    response = await federation.http.post(
        "/v1/experiments", content=with_config(**change), headers=headers
    )
    assert is_problem(response)
    assert name in response.json()["detail"]


@pytest.mark.parametrize("examples", [0, -1, 10**9, 10**30, True, "10", 1.5, None, 11])
async def test_impossible_example_counts_weigh_nothing(federation, examples):
    experiment, members = await federation.start()
    member = members[(await federation.cohort(experiment))[0]]
    await _commit(federation, experiment, member, num_examples=examples)


@pytest.mark.parametrize(
    "metrics",
    [
        {"loss": float("nan")},
        {"loss": float("inf")},
        {"loss": -1e400},
        {"loss": 1e31},
        {"loss": "1"},
        {"loss": True},
        {"loss": None},
        {"": 1},
        {"x" * 65: 1},
        {"a/b": 1},
        {f"m{n}": 1 for n in range(33)},
        [],
    ],
)
async def test_impossible_metrics_are_refused(federation, metrics):
    experiment, members = await federation.start()
    member = members[(await federation.cohort(experiment))[0]]
    await _commit(federation, experiment, member, metrics=metrics)


async def _commit(federation, experiment, member, **changes):
    """An update that is sound but for the changes: refused, and the round goes on without it."""
    import hashlib

    from tests.support.federation import weights

    data = weights(1.0)
    sha = hashlib.sha256(data).hexdigest()
    path = f"/v1/experiments/{experiment}/rounds/1/update"
    headers = {
        "Authorization": f"Bearer {member.api.connection.key}",
        "Content-Type": "application/json",
    }
    put = await federation.http.put(
        f"{path}/parts/0", params={"sha256": sha}, content=data, headers=headers
    )
    assert put.status_code == 200
    body = {"sha256": sha, "parts": [sha], "num_examples": 5} | changes
    response = await federation.http.post(path, content=json.dumps(body).encode(), headers=headers)
    assert is_problem(response)
    assert (await federation.admin.round(experiment, 1)).reported == []


async def test_json_bodies_have_a_limit_of_their_own(federation):
    wide = b"{" + b",".join(b'"k%d":1' % n for n in range(300_000)) + b"}"
    headers = {"Authorization": "Bearer x", "Content-Type": "application/json"}
    response = await federation.http.post("/v1/experiments", content=wide, headers=headers)
    assert is_problem(response)
    assert response.status_code == 413


DATA = b"weights" * 1000
PACKED = gzip.compress(DATA)
BOMB = gzip.compress(b"\0" * 10_000_000)


@pytest.mark.parametrize(
    ("method", "encoding", "status", "accepted"),
    [
        ("POST", "gzip", 415, "identity"),
        ("POST", "deflate", 415, "identity"),
        ("PUT", "br", 415, "gzip, identity"),
        ("PUT", "identity, gzip", 415, "gzip, identity"),
        ("PUT", "gzip", 413, None),
        ("PUT", "GZIP", 413, None),
    ],
)
async def test_a_packed_body_unpacks_to_no_more_than_a_part(
    federation, method, encoding, status, accepted
):
    experiment, members = await federation.start()
    member = members[(await federation.cohort(experiment))[0]]
    path = f"/v1/experiments/{experiment}/rounds/1/update"
    response = await federation.http.request(
        method,
        f"{path}/parts/0" if method == "PUT" else path,
        params={"sha256": "0" * 64},
        content=BOMB,
        headers={
            "Authorization": f"Bearer {member.api.connection.key}",
            "Content-Encoding": encoding,
        },
    )
    assert is_problem(response)
    assert response.status_code == status
    assert response.headers.get("accept-encoding") == accepted


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no gzip",
        PACKED[:-1],
        PACKED[:20],
        PACKED + b"x",
        PACKED + PACKED,
        zlib.compress(DATA),
    ],
    ids=range(7),
)
async def test_gzip_that_is_broken_is_refused(federation, body):
    experiment, members = await federation.start()
    member = members[(await federation.cohort(experiment))[0]]

    async def put(content):
        return await federation.http.put(
            f"/v1/experiments/{experiment}/rounds/1/update/parts/0",
            params={"sha256": hashlib.sha256(DATA).hexdigest()},
            content=content,
            headers={
                "Authorization": f"Bearer {member.api.connection.key}",
                "Content-Encoding": "gzip",
            },
        )

    response = await put(body)
    assert is_problem(response)
    assert (response.status_code, response.json()["code"]) == (422, "digest-mismatch")
    assert (await put(PACKED)).status_code == 200
