"""Settings as operators give them: empty, misspelt, too short, or meant for somebody else."""

import base64
import logging
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from app.config import BadSettings, read_settings
from app.main import create_app
from app.service.coordinator import Limits

KEY = "a-key-of-twenty-letters"


def read_with(monkeypatch, **environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings()


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    unset = read_settings()
    names = [f"FL_{name.upper()}" for name in type(unset).model_fields]
    assert len(names) > 20
    others = ("MONGODB_URL", "OTEL_EXPORTER_OTLP_ENDPOINT")
    assert read_with(monkeypatch, **dict.fromkeys((*names, *others), "")) == unset


def test_the_limits_are_those_that_the_settings_say(monkeypatch):
    assert read_settings().limits == replace(Limits(), hold_seconds=20.0)
    own = {name for name in asdict(Limits()) if name in type(read_settings()).model_fields}
    assert asdict(Limits()).keys() - own == {
        "group_size",
        "drop_bytes",
        "step_masks",
    }  # no operator's matter
    given = {name: 70_000 + n for n, name in enumerate(sorted(own - {"hold_seconds"}))}
    given["hold_seconds"] = 7
    names = {f"FL_{name.upper()}": str(value) for name, value in given.items()}
    assert read_with(monkeypatch, **names).limits == replace(Limits(), **given)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FL_HOLD_SECOND", "FL_HOLD_SECONDS"),
        ("FL_ADMINKEY", "FL_ADMIN_KEY"),
        ("FL_LEASE_SECS", "FL_LEASE_SECONDS"),
        ("FL_DATA_DIRECTORY", "FL_DATA_DIR"),
        ("FL_ZZZZZZ", None),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_known_one(monkeypatch, name, meant):
    assert read_with(monkeypatch, **{name: "1"}).unknown == {name: meant}


def test_what_is_known_or_not_ours_is_no_unknown_variable(monkeypatch):
    settings = read_with(
        monkeypatch,
        FL_ENROL_KEY="x",
        FL_LIVE="true",
        fl_metrics="off",
        FLAGS="1",
        FL_HOLDSECONDS="",
    )
    assert settings.unknown == {}
    assert settings.metrics == "off"


async def test_the_log_says_what_is_unknown(monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.WARNING)
    settings = read_with(monkeypatch, FL_HOLD_SECOND="3", FL_DATA_DIR=str(tmp_path))
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        pass
    assert "unknown setting name=FL_HOLD_SECOND meant=FL_HOLD_SECONDS" in caplog.text


def test_given_settings_come_before_the_environments(monkeypatch):
    """As an OpenWhisk action's parameters and a Lambda's secret do."""
    monkeypatch.setenv("MONGODB_URL", "mongodb://of-the-environment")
    monkeypatch.setenv("FL_ADMIN_KEY", "of-the-environment-itself")
    given = {"FL_ADMIN_KEY": KEY, "MONGODB_URL": "mongodb://given", "FL_LEASE_SECONDS": 5}
    found = read_settings(given | {"FL_MONGODB_DATABASE": "", "FL_LEASE_SECS": 1})
    assert found.admin_key.get_secret_value() == KEY
    assert found.mongodb_url.get_secret_value() == "mongodb://given"
    assert found.lease_seconds == 5
    assert found.mongodb_database == "federated_learning"
    assert found.unknown == {"FL_LEASE_SECS": "FL_LEASE_SECONDS"}


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_a_keys_line_end_is_not_part_of_it(monkeypatch, end):
    assert read_with(monkeypatch, FL_ADMIN_KEY=KEY + end).admin_key.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FL_ADMIN_KEY", "short", "FL_ADMIN_KEY: must have at least 16 characters, not 5"),
        ("FL_ADMIN_KEY_PREVIOUS", "short", "FL_ADMIN_KEY_PREVIOUS: must have at least 16"),
        ("FL_ADMIN_KEY", "ключ-администратора", "FL_ADMIN_KEY: must hold only printable ASCII"),
        ("FL_KEYS", "al ice:owner:0", "FL_KEYS: each must be NAME:ROLES:SHA256, and a name has"),
        ("FL_KEYS", f"admin:owner:{'0' * 64}", "FL_KEYS: must not name anybody admin: records"),
        ("FL_KEYS", f"alice:boss:{'0' * 64}", "FL_KEYS: must have the roles admin, owner, reader"),
        ("FL_KEYS", "alice:owner:key_in-the-clear", "FL_KEYS: must have the SHA-256 of alice's"),
        ("FL_KEYS", f"a:reader:{'0' * 64},b:owner:{'0' * 64}", "FL_KEYS: must not give b a key"),
        ("FL_LEASE_SECONDS", "half a minute", "FL_LEASE_SECONDS: input should be a valid number"),
        ("FL_LOG_LEVEL", "loud", "FL_LOG_LEVEL: input should be 'debug', 'info', 'warning'"),
        ("FL_CORS_ORIGINS", "page.example", "FL_CORS_ORIGINS: each must be an origin"),
        ("FL_ROLE", "server", "FL_ROLE: input should be 'coordinator' or 'helper'"),
        ("FL_HELPER_URL", "helper.of-b", "FL_HELPER_URL: must be an address such as"),
        ("FL_HELPER_URL", "https://h.example", "FL_HELPER_KEY: must be set where FL_HELPER_URL is"),
        ("FL_HELPER_KEY", "clé", "FL_HELPER_KEY: must hold only printable ASCII"),
        ("FL_HELPER_FEWEST", "2", "FL_HELPER_FEWEST: input should be greater than or equal to 3"),
        ("FL_HELPER_PINS", "abc", "FL_HELPER_PINS: the text of the pins, line 1: a finger"),
        ("FL_WEBHOOK_URLS", "ftp://example.org", "FL_WEBHOOK_URLS: each must be an http:// or"),
        ("FL_WEBHOOK_URLS", "http://me@example.org", "FL_WEBHOOK_URLS: each must be an http:// or"),
        ("FL_WEBHOOK_URLS", "https://[example", "FL_WEBHOOK_URLS: each must be an http:// or"),
        ("FL_WEBHOOK_URLS", "https://example.org", "FL_WEBHOOK_SECRET: must be set where FL_WEB"),
        ("FL_WEBHOOK_URLS", "http://a.org," * 6, "FL_WEBHOOK_URLS: must name at most 5 addresses"),
        ("FL_WAKE_HOSTS", "https://example.org", "FL_WAKE_HOSTS: each must be a host, such as *."),
        ("FL_WEBHOOK_SECRET", "whsec_c2hvcnQ=", "FL_WEBHOOK_SECRET: must be whsec_ and 24 to 64"),
        ("FL_WEBHOOK_SECRET", "no-prefix-at-all", "FL_WEBHOOK_SECRET: must be whsec_ and 24"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(monkeypatch, name, value, said):
    with pytest.raises(BadSettings) as caught:
        read_with(monkeypatch, **{name: value})
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert value not in str(caught.value)


async def test_webhooks_get_the_addresses_and_the_key_that_signs(monkeypatch, tmp_path):
    assert read_settings().webhooks == ([], b"")
    secret = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
    urls = "https://example.org/hook, http://127.0.0.1:9000"
    settings = read_with(
        monkeypatch,
        **{"FL_WEBHOOK_URLS": urls, "FL_WEBHOOK_SECRET": secret, "FL_DATA_DIR": str(tmp_path)},
    )
    assert settings.webhooks == (urls.split(", "), bytes(range(32)))
    assert secret not in repr(settings)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        assert list(app.state.coordinator.context.webhooks.urls) == urls.split(", ")


async def test_where_clients_may_be_woken_up_is_a_setting(monkeypatch, tmp_path):
    assert read_settings().wake_rules is None
    hosts = {"FL_WAKE_HOSTS": ", *.example.org,10.0.0.0/8", "FL_DATA_DIR": str(tmp_path)}
    app = create_app(read_with(monkeypatch, **hosts))
    async with app.router.lifespan_context(app):
        wake_ups = app.state.coordinator.context.wake_ups
        assert wake_ups.rule_for("https://party.example.org/") == "*.example.org"
        assert wake_ups.rule_for("https://example.com/") is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"FL_ADMIN_KEY": "short"}, "error: FL_ADMIN_KEY: must have at least 16 characters"),
        ({"FL_PRICES": "/nowhere/prices.json"}, "error: The price table /nowhere/prices.json"),
        ({"MONGODB_URL": "mongo://x"}, "MONGODB_URL is no MongoDB connection string"),
        ({"FL_DATA_DIR": "/dev/null/data"}, "The admin key cannot be kept in /dev/null/data"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_start_that_fails_says_why_and_shows_no_traceback(settings, said, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0"],
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"FL_DATA_DIR": str(tmp_path)} | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (1, 3)  # ours; uvicorn's for a startup that failed
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "endpoint", ["collector:4317", "collector", "grpc://collector:4317", "http://[::1"]
)
async def test_an_endpoint_for_traces_that_is_no_address_stops_nobody(
    monkeypatch, caplog, tmp_path, endpoint
):
    """The variable is OpenTelemetry's own, and may be meant for another program."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    app = create_app(read_with(monkeypatch, FL_DATA_DIR=str(tmp_path)))
    async with app.router.lifespan_context(app):
        pass
    assert "no traces" in caplog.text
    assert "is no http:// or https:// address" in caplog.text
