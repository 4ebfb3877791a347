"""What HTTP promises: ranges, tags, problems, request ids, and pages for people."""

from __future__ import annotations

import hashlib

import numpy as np

from tests.support.federation import config, weights
from tests.support.ways import is_problem


async def test_a_model_by_range_and_tag(api):
    experiment, members = await api.start(clients=2)
    path, data = f"/v1/experiments/{experiment}/models/0", weights(0)

    async def get(**headers):
        names = {k.replace("_", "-"): v for k, v in headers.items()}
        return await api.send("GET", path, members[0].api.connection.key, headers=names)

    whole = await get()
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["x-model-version"] == "0"
    etag = whole.headers["etag"]
    assert etag == f'"{hashlib.sha256(data).hexdigest()}"'
    for known in (etag, f'"x", W/{etag}', "*"):
        again = await get(if_none_match=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    size = len(data)
    for wanted, start, stop in (
        ("bytes=0-8", 0, 9),
        ("bytes=10-", 10, size),
        ("bytes=-7", size - 7, size),
    ):
        part = await get(range=wanted, if_range=etag)
        assert (part.status_code, part.content) == (206, data[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    assert (await get(range="bytes=0-1", if_range='"another"')).content == data
    beyond = await get(range="bytes=99999-")
    assert is_problem(beyond, 416, "range-not-satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{size}"


async def test_an_answer_holds_no_more_than_the_platform_carries(api):
    limit = api.way.answer_bytes or api.way.part_bytes
    big = np.random.default_rng(0).normal(size=limit // 4 + 1).astype(np.float32)
    data = weights(1, big=big)
    made = await api.create()
    await api.admin.upload_initial_model(made.id, data, made.part_bytes)
    path, size = f"/v1/experiments/{made.id}/models/latest", len(data)
    whole = await api.send("GET", path)
    part = await api.send("GET", path, headers={"Range": "bytes=5-"})
    if api.way.answer_bytes is None:
        assert (whole.status_code, whole.content) == (200, data)
        assert (part.status_code, part.content) == (206, data[5:])
    else:
        assert is_problem(whole, 413, "answer-too-large")
        assert f"Range: bytes=0-{limit - 1}" in whole.json()["detail"]
        assert (part.status_code, part.content) == (206, data[5 : 5 + limit])
        assert part.headers["content-range"] == f"bytes 5-{5 + limit - 1}/{size}"
    assert await api.admin.download_model(made.id, part_bytes=10**9) == data


async def test_errors_are_problems_with_the_right_status(api):
    made = await api.create()
    path = f"/v1/experiments/{made.id}"
    unauthenticated = await api.send("POST", f"{path}/stop", None)
    assert is_problem(unauthenticated, 401, "unauthenticated")
    assert unauthenticated.headers["www-authenticate"] == "Bearer"
    for wrong in ("nope", made.enrolment_key, "0.not-a-token"):
        assert is_problem(await api.send("POST", f"{path}/stop", wrong), 401, "unauthenticated")
    assert is_problem(await api.send("GET", f"{path}/status", "0.nope"), 401, "unauthenticated")
    assert is_problem(await api.send("GET", "/v1/experiments/20260101-0-no"), 404, "not-found")
    assert is_problem(await api.send("GET", "/v1/nothing"), 404, "not-found")
    assert is_problem(await api.send("GET", f"{path}/models/0"), 404, "not-found")
    assert is_problem(await api.send("PATCH", f"{path}/stop"), 405, "method-not-allowed")
    commit = {"sha256": "0" * 64, "parts": ["0" * 64]}
    missing = await api.send("POST", f"{path}/initial-model", json=commit)
    assert is_problem(missing, 409, "parts-missing")
    part = f"{path}/initial-model/parts/0?sha256="
    assert is_problem(await api.send("PUT", part + "0" * 64, content=b"x"), 422, "digest-mismatch")
    assert is_problem(await api.send("PUT", part + "é", content=b"x"), 422, "invalid-request")
    assert is_problem(await api.send("GET", "/v1/experiments/Süd"), 422, "invalid-request")
    for body in (b"", b"{", b"\xff\xfe", b'"text"'):
        json = {"Content-Type": "application/json"}
        broken = await api.send("POST", "/v1/experiments", content=body, headers=json)
        assert is_problem(broken, 422, "invalid-request")
    wrong = {"config": config().model_dump() | {"clients": 0}}
    refused = await api.send("POST", "/v1/experiments", json=wrong)
    assert is_problem(refused, 422, "invalid-request")
    assert refused.json()["errors"][0]["where"] == "body.config.clients"


async def test_a_path_may_be_percent_encoded(api):
    made = await api.create()
    encoded = "".join(f"%{ord(c):02X}" for c in made.id)
    shown = await api.send("GET", f"/v1/experiments/{encoded}")
    assert shown.json()["id"] == made.id
    after = await api.send("GET", f"/v1/experiments?after={encoded}&limit=1")
    assert made.id not in [e["id"] for e in after.json()]


async def test_every_answer_has_a_request_id_the_callers_where_it_is_one(api):
    given = await api.send("GET", "/health", headers={"X-Request-ID": "find-me.1"})
    assert given.headers["x-request-id"] == "find-me.1"
    made = [(await api.send("GET", "/v1/nothing")).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    odd = await api.send("GET", "/health", headers={"X-Request-ID": "a b"})
    assert odd.headers["x-request-id"] != "a b"


async def test_the_documentation_is_there_to_browse(api):
    page = await api.send("GET", "/docs", None)
    assert page.headers["content-type"].startswith("text/html")
    assert "swagger" in page.text
    document = (await api.send("GET", "/openapi.json", None)).json()
    assert "/v1/experiments" in document["paths"]
