"""Secrets stay where they belong: not in the store in the clear, not in logs, not in answers."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import logging
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import httpx
import pytest
import uvicorn

from app.config import Settings
from app.main import create_app
from app.store.mongo import open_mongo
from app.telemetry.logs import JsonFormatter
from serverless_fl.domain.errors import StoreDenied, StoreUnavailable
from tests.support.federation import ADMIN_KEY, BOTH_STORES, config, key_of, weights
from tests.support.plain_http import bearer
from tests.support.some import some

ADMIN = "ADMINSECRET-adminsecret-0123456789"
PREVIOUS = "PREVIOUSSECRET-previous-0123456789"
CLIENT_KEY = "CLIENTKEYSECRET_clientkey_0123456789"
WRONG = "WRONGSECRET-not-a-key-of-anything"
PASSWORD = "DATABASEPASSWORD"
INTERNAL = "cluster0.internal.example:27017"


async def raw_store(store, tmp_path) -> bytes:
    """Every byte that the store keeps."""
    if hasattr(store.documents, "_client"):  # MongoDB: whole collections, as they come
        database = store.documents._database
        found = []
        for name in await database.list_collection_names():
            found += [str(d) async for d in database[name].find({})]
        return "\n".join(found).encode()
    return b"".join(p.read_bytes() for p in sorted(tmp_path.glob("*.sqlite3*")))


@BOTH_STORES
async def test_no_secret_lies_in_the_store_in_the_clear(federation, store, tmp_path):
    experiment, key = await federation.create()
    tokens = []
    for n in range(4):
        member = await federation.enrol(experiment, key, n)
        tokens.append(member.api.connection.key)
    tokens.append((await member.api.replace_token(experiment, key_of(3))).token)
    keys = [
        key,
        (await federation.admin.replace_enrolment_key(experiment, "rotate-it")).enrolment_key,
    ]
    secrets = {
        ADMIN_KEY,
        "rotate-it",  # an Idempotency-Key opens nothing, but is not kept either
        *(key_of(n) for n in range(4)),
        *(token.split("tok_")[1] for token in tokens),
        *(key.removeprefix("enrol_") for key in keys),
    }
    raw = await raw_store(store, tmp_path)
    assert experiment.encode() in raw  # it is the right store
    for secret in some(secrets):
        forms = (secret.encode(), base64.b64encode(secret.encode()), secret.encode().hex().encode())
        assert not [form for form in forms if form in raw], secret


@contextlib.asynccontextmanager
async def served(app):
    """By uvicorn, its access log on, over a real socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # log_config=None: its loggers reach the root, where the test listens.
    settings = uvicorn.Config(app, port=port, log_config=None, access_log=True, ws="none")
    server = uvicorn.Server(settings)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
        assert not task.done()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            yield http
    finally:
        server.should_exit = True
        await task


async def drive(http, app):
    """Through successes and every kind of failure; gives each answer's text and whose it is."""
    answers = []

    async def call(method, path, secret=None, **options):
        headers = bearer(secret) if secret else {}
        answer = await http.request(method, f"/v1{path}", headers=headers, **options)
        answers.append((secret, answer))
        return answer

    made = await call("POST", "/experiments", ADMIN, json={"config": config().model_dump()})
    experiment, enrol = made.json()["id"], made.json()["enrolment_key"]
    path = f"/experiments/{experiment}"
    for secret in (WRONG, PREVIOUS, enrol):
        await call("POST", f"{path}/initial-model", secret, json={"sha256": CLIENT_KEY})
    await call("POST", f"{path}/clients", enrol, json={"client_key": CLIENT_KEY})  # 409
    data = weights(1.0)
    sha = hashlib.sha256(data).hexdigest()
    part = {"content": data, "params": {"sha256": sha}}
    await call("PUT", f"{path}/initial-model/parts/0", ADMIN, **part)
    await call("POST", f"{path}/initial-model", ADMIN, json={"sha256": sha, "parts": [sha]})
    subscribed = await call("POST", f"{path}/clients", enrol, json={"client_key": CLIENT_KEY})
    token = subscribed.json()["token"]
    # Malformed, each with a secret in the body where it is refused.
    await call("POST", f"{path}/clients", enrol, json={"client_key": f"!{CLIENT_KEY}"})
    await call("POST", f"{path}/clients", enrol, json={"client_key": [CLIENT_KEY]})
    await call("POST", f"{path}/clients", enrol, json={"client_key": CLIENT_KEY, "more": token})
    await call("POST", f"{path}/clients", enrol, content=f'{{"client_key": "{CLIENT_KEY}'.encode())
    await call("POST", f"{path}/token", token, json={"client_key": f"{CLIENT_KEY} "})
    await call("POST", f"{path}/token", WRONG, json={"client_key": CLIENT_KEY})
    replaced = await call("POST", f"{path}/token", token, json={"client_key": CLIENT_KEY})
    newer = replaced.json()["token"]
    for secret in (token, newer, enrol, WRONG):
        await call("GET", f"{path}/status", secret)
    await call("POST", f"{path}/enrolment-key", ADMIN)
    await call("POST", f"{path}/clients/client-00/revoke", ADMIN)
    await call("GET", f"{path}/status", newer)
    await call("GET", f"{path}/audit", PREVIOUS)
    for watched in ("", "/clients", "/models"):
        await call("GET", f"{path}{watched}")

    async def broken(*_):
        raise RuntimeError("not foreseen")

    async def away(*_):
        raise StoreUnavailable(f"{INTERNAL} did not answer.")  # as the driver names it

    views = app.state.coordinator.views
    for fault in (broken, away):
        views.experiment = fault
        await call("GET", path, newer)
    return answers, {enrol, token, newer}


async def test_no_secret_reaches_a_log_or_a_stranger(tmp_path, request, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    collected = io.StringIO()  # the lines as a collector gets them, beside what pytest shows
    handler = logging.StreamHandler(collected)
    handler.setFormatter(JsonFormatter())
    logging.getLogger("app").addHandler(handler)
    request.addfinalizer(lambda: logging.getLogger("app").removeHandler(handler))
    logging.getLogger("httpcore").setLevel(logging.WARNING)  # this test's own side of the wire
    app = create_app(
        Settings(admin_key=ADMIN, admin_key_previous=PREVIOUS, data_dir=tmp_path, tick_seconds=0)
    )
    async with served(app) as http:
        answers, made = await drive(http, app)
        seen_by_all = [(await http.get(path)).text for path in ("/metrics", "/ready")]
    statuses = {answer.status_code for _, answer in answers}
    assert statuses == {200, 201, 401, 409, 422, 500, 503}
    secrets = {ADMIN, PREVIOUS, CLIENT_KEY, WRONG} | {s.split("_", 1)[-1] for s in made}
    shown = capfd.readouterr()
    logged = caplog.text + shown.out + shown.err + collected.getvalue()
    assert [json.loads(line) for line in collected.getvalue().splitlines()]
    assert "fl_requests_total" in seen_by_all[0]
    assert not [secret for secret in secrets if secret in "".join(seen_by_all)]
    assert "method=POST route=/v1/experiments status=201" in logged
    assert "status=401 code=unauthenticated" in logged
    assert 'HTTP/1.1" 201' not in "".join(  # uvicorn's own access log has given way
        r.getMessage() for r in caplog.records if r.name == "uvicorn.access"
    )
    assert "RuntimeError: not foreseen" in logged
    assert "store unavailable" in logged and INTERNAL in logged
    assert not [answer for _, answer in answers if INTERNAL in answer.text + str(answer.headers)]
    assert not [secret for secret in secrets if secret in logged]
    for _, answer in some(answers):
        # A new key or token is told to whoever has the right to it, and nothing else ever is.
        given = answer.json() if answer.is_success else {}
        told = {given.get("token"), given.get("enrolment_key")} if isinstance(given, dict) else ()
        own = {s.split("_", 1)[-1] for s in told if s}
        text = answer.text + str(answer.headers) + str(answer.request.url)
        assert not [s for s in secrets - own if s in text], answer.text
        if own:
            assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "url",
    [
        f"mongodb://user:pa/{PASSWORD}@database:1/",
        f"mongodb://user:pa:{PASSWORD}@127.0.0.1:1/",
        f"mongodb://user:{PASSWORD}@127.0.0.1:{PASSWORD}/",
        f"mongodb://user:1@{PASSWORD}@127.0.0.1:1/",
        f"mongodb://user:%zz{PASSWORD}@127.0.0.1:1/",
        f"mongo://user:{PASSWORD}@127.0.0.1:1/",
        f"mongodb://user:{PASSWORD}@127.0.0.1:1/",  # well formed, but nobody is there
    ],
)
async def test_a_database_url_that_fails_is_not_shown(url, monkeypatch):
    monkeypatch.setattr("app.store.mongo.OPERATION_MS", 200)
    with pytest.raises(StoreUnavailable) as caught:
        await open_mongo(url, "test")
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", [PASSWORD, f"{PASSWORD}@127.0.0.1:1", f"127.0.0.1,{PASSWORD}"])
async def test_a_secret_in_place_of_the_database_url_is_looked_up_nowhere(url):
    """The driver takes it for a host: it would ask the DNS for it, and name it."""
    with pytest.raises(StoreDenied, match="it must begin with mongodb://") as caught:
        await open_mongo(url, "test")
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_a_coordinator_that_cannot_start_does_not_log_its_secrets():
    """A process of its own: what it prints is all there is."""
    settings = {
        "FL_ADMIN_KEY": ADMIN,
        "MONGODB_URL": f"mongodb://user:pa/{PASSWORD}@database:1/",
    }
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0", "--log-level", "trace"],
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 3
    text = done.stdout + done.stderr
    assert "MONGODB_URL is no MongoDB connection string" in text
    assert PASSWORD not in text
    assert ADMIN not in text


@pytest.mark.parametrize(
    "wrong", [{"admin_key": "SHORTSECRET"}, {"admin_key_previous": "SHORTSECRET"}]
)
def test_a_setting_that_is_refused_is_named_but_not_shown(wrong):
    with pytest.raises(ValueError, match="at least 16") as caught:
        Settings(**wrong)
    assert "SHORTSECRET" not in "".join(traceback.format_exception(caught.value))
    assert next(iter(wrong)) in str(caught.value)


def test_settings_do_not_show_their_secrets():
    settings = Settings(admin_key=ADMIN, mongodb_url=f"mongodb://user:{PASSWORD}@h/")
    assert ADMIN not in repr(settings)
    assert PASSWORD not in repr(settings)


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_made_admin_key_is_shown_to_a_terminal_only(
    tmp_path, capsys, monkeypatch, terminal
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    async with (app := create_app(Settings(data_dir=tmp_path))).router.lifespan_context(app):
        shown = capsys.readouterr().err
    assert str(tmp_path / "admin-key") in shown
    assert ((tmp_path / "admin-key").read_text(encoding="utf-8") in shown) is terminal


HOST, REASON = "cluster0-shard-00.internal.example:27017", "(Unauthorized) not authorized on admin"


def _kinds(of):
    return [of, *(kind for sub in of.__subclasses__() for kind in _kinds(sub))]


@pytest.mark.parametrize("kind", _kinds(StoreUnavailable), ids=lambda kind: kind.__name__)
async def test_what_a_driver_says_is_for_the_log_and_not_for_callers(federation, caplog, kind):
    """It names hosts, users and files; a caller without a key can cause it by asking."""

    async def away(*_, **__):
        raise kind(f"{HOST}: {REASON}")

    coordinator = federation.app.state.coordinator
    coordinator.views.experiments = coordinator.health.ready = away
    for path in ("/v1/experiments", "/ready"):
        answer = await federation.http.get(path)
        assert answer.status_code == 503
        assert answer.json()["code"] == kind.code
        shown = answer.text + str(answer.headers)
        assert not [part for part in (HOST, "cluster0", "Unauthorized", "admin") if part in shown]
    assert caplog.text.count(f"{HOST}: {REASON}") == 2


async def test_an_error_that_nobody_foresaw_shows_neither_its_name_nor_its_reason(
    federation, caplog
):
    class ServerSelectionTimeoutError(Exception):
        pass

    async def broken(*_, **__):
        raise ServerSelectionTimeoutError(f"{HOST}: {REASON}") from OSError(REASON)

    federation.app.state.coordinator.views.experiments = broken
    answer = await federation.http.get("/v1/experiments")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    shown = answer.text + str(answer.headers)
    told = (HOST, "cluster0", "Unauthorized", "ServerSelection", "OSError", "Traceback")
    assert not [part for part in told if part in shown]
    assert HOST in caplog.text
