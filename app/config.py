"""Settings, from the environment. No other file reads it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "FL_"
ADMIN_KEY_CHARACTERS = 16  # at least
OF_OTHERS = frozenset({"FL_ENROL_KEY"})  # the SDK's, which may be set on the same machine


class BadSettings(RuntimeError):
    """Settings that the coordinator cannot start with; the message is one sentence."""


class Settings(BaseSettings):
    """What an operator may set; each name in the environment carries the prefix `FL_`.

    An empty variable is an unset one. `read_settings` is how a coordinator gets them.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        populate_by_name=True,
        extra="ignore",
        hide_input_in_errors=True,
    )
    _unknown: tuple[str, ...] = PrivateAttr(())

    data_dir: Path = Field(Path("fl-data"), description="Where the embedded database lies")
    mongodb_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("MONGODB_URL", "FL_MONGODB_URL"),
        description="Use MongoDB instead; the driver's own connection string",
    )
    mongodb_database: str = "federated_learning"
    admin_key: SecretStr | None = Field(
        None,
        description="Creates and stops experiments. Without one the coordinator makes one, keeps "
        "it beside the database, and answers callers on this machine only",
    )
    admin_key_previous: SecretStr | None = Field(
        None,
        description="The admin key until now, while it is being changed: both work meanwhile, and "
        "enrolment keys made under it can be shown",
    )
    secret_id: str | None = Field(
        None,
        description="On AWS: the secret (or, with a leading slash, the SSM parameter) whose JSON "
        "holds MONGODB_URL and FL_ADMIN_KEY",
    )
    s3_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="Keep weights in this bucket instead of the database; clients then move them "
        "by presigned URLs",
    )
    s3_url_seconds: int = Field(
        900,
        ge=60,
        le=7 * 86400,
        description="A presigned URL's life at most; one for an upload is good for as long as the "
        "parts that were announced with it need on a slow line",
    )
    s3_public_endpoint: str | None = Field(
        None,
        description="The origin under which clients reach the bucket, such as "
        "https://s3.example.org, where it is another one than the coordinator's",
    )
    live: bool = Field(True, description="Server-sent events; off where answers cannot be streamed")
    part_bytes: int = Field(8 * 1024**2, ge=64 * 1024, le=8 * 1024**2)
    max_model_bytes: int = Field(1024**3, ge=1024)
    answer_bytes: int | None = Field(
        None,
        ge=64 * 1024,
        description="The most bytes of a model in one answer, where the platform has such a limit",
    )
    lease_seconds: float = Field(30.0, gt=0)
    step_seconds: float = Field(
        10.0, gt=0, description="Of aggregation within one call; the next call goes on"
    )
    step_updates: int = Field(
        256, ge=2, description="So many updates, a part of each, are read for it within one call"
    )
    tick_seconds: float = Field(
        60.0,
        ge=0,
        description="How often a server advances the open experiments though nobody asks; 0 for "
        "never, where a scheduler does it",
    )
    abandon_days: float = Field(
        7.0, gt=0, description="An experiment without initial weights for so long is stopped"
    )
    poll_min_seconds: float = Field(0.2, gt=0)
    poll_max_seconds: float = Field(15.0, gt=0)
    hold_seconds: float = Field(
        20.0,
        ge=0,
        le=25,
        description="How long a client that waits may have its answer held back until there is "
        "something to do (long polling); 0 where a held request costs money",
    )
    rate_per_second: float = Field(
        50.0,
        ge=0,
        description="Requests that a client may make in the long run, of each process; "
        "an address may make many times as many. 0: no limit",
    )
    rate_burst: int = Field(500, ge=1, description="... and at once")
    rate_address_factor: float = Field(
        20.0,
        gt=0,
        description="An address may make so many times what a client may: a hospital's clients, or "
        "a whole simulation, come from one",
    )
    connections_per_address: int = Field(
        500,
        ge=1,
        description="Connections of one address that wait for a request (`python -m app`); one "
        "more, and its oldest is closed",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of the proxies in front, separated by commas: only they "
        "are believed who calls (X-Forwarded-For, X-Forwarded-Proto)",
    )
    base_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*/?$",
        description="The path that a gateway puts before the coordinator's own and does not take "
        "off, such as /federated",
    )
    max_experiments: int = Field(1000, ge=1, description="That have not ended, at a time")
    max_clients: int = Field(100_000, ge=1, description="Slots of one experiment")
    prices: Path | None = Field(
        None, description="A table of prices for the estimated cost, instead of ours"
    )
    cors_origins: str = Field(
        "",
        description="Web pages' origins that may call, separated by commas, such as "
        "https://example.org; * for all. Without it browsers let no other page read an answer",
    )

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console where stderr is a terminal, else JSON lines on stdout"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics: Literal["on", "embedded", "off"] = Field(
        "on",
        description="on: for Prometheus at /metrics; embedded: as log lines for CloudWatch, which "
        "is what the Lambda entry does",
    )
    otel_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("FL_OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Send traces to this OTLP collector, such as http://localhost:4318",
    )

    @field_validator("admin_key", "admin_key_previous")
    @classmethod
    def _can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        """Without the line end that a secret's file brings along."""
        if value is None:
            return None
        key = value.get_secret_value().strip()
        if len(key) < ADMIN_KEY_CHARACTERS:
            raise ValueError(
                f"must have at least {ADMIN_KEY_CHARACTERS} characters, not {len(key)}: take "
                "random ones, such as `openssl rand -hex 32` gives"
            )
        if not (key.isascii() and key.isprintable()):
            raise ValueError("must be of printable ASCII characters, or no header can carry it")
        return SecretStr(key)

    @field_validator("s3_public_endpoint")
    @classmethod
    def _origin_only(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        if value is not None and (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or value.rstrip("/") != f"{parts.scheme}://{parts.netloc}"
        ):
            raise ValueError("must be an origin such as https://s3.example.org")
        return value and value.rstrip("/")

    @field_validator("cors_origins")
    @classmethod
    def _origins_only(cls, value: str) -> str:
        for origin in _listed(value):
            parts = urlsplit(origin)
            if origin not in ("*", f"{parts.scheme}://{parts.netloc}"):
                raise ValueError("each must be an origin such as https://example.org, or *")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks_only(cls, value: str) -> str:
        for item in _listed(value):
            try:
                found = ipaddress.ip_network(item)
            except ValueError:
                raise ValueError(
                    "each must be an address or a network, such as 10.0.0.0/8"
                ) from None
            if found.prefixlen == 0:
                raise ValueError("a network of all addresses would believe every caller")
        return value

    @property
    def allowed_origins(self) -> list[str]:
        return _listed(self.cors_origins)

    @property
    def proxies(self) -> list[str]:
        return _listed(self.trusted_proxies)

    @property
    def unknown(self) -> Mapping[str, str | None]:
        """Variables that were set and are no settings, each with the name that it may stand for."""
        known = sorted(_names())
        return {
            name: next(iter(get_close_matches(name.upper(), known, 1)), None)
            for name in self._unknown
        }


def read_settings(given: Mapping[str, Any] | None = None) -> Settings:
    """The settings of the environment, and `given` ones by the same names, which come first.

    Raises BadSettings, which names the variable and shows no value.
    """
    own = {name: value for name, value in (given or {}).items() if value not in (None, "")}
    try:
        settings = Settings(**_by_alias(own))
    except ValidationError as error:
        raise BadSettings(_sentence(error)) from None  # its own text may quote a secret
    settings._unknown = tuple(_unknown({*own, *_set(os.environ)}))
    return settings


def _by_alias(given: Mapping[str, Any]) -> dict[str, Any]:
    """As pydantic wants them: where a field has aliases, the first one outweighs the others."""
    first = {field: name for name, field in reversed(_names().items())}
    found = {}
    for name, field in reversed(_names().items()):
        if name in given:
            alias = Settings.model_fields[field].validation_alias
            found[first[field] if alias else field] = given[name]
    return found


def _set(environment: Mapping[str, str]) -> Iterable[str]:
    return (name for name, value in environment.items() if value)


def _names() -> dict[str, str]:
    """Each name in the environment, and the field that it sets."""
    found: dict[str, str] = {}
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [PREFIX + field.upper()]
        found |= {str(name): field for name in names}
    return found


def _unknown(names: Iterable[str]) -> list[str]:
    known = {*_names(), *OF_OTHERS}
    return sorted(n for n in names if n.upper().startswith(PREFIX) and n.upper() not in known)


def _sentence(error: ValidationError) -> str:
    names = {field: name for name, field in reversed(_names().items())}  # the first name of each
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        where = str(fault["loc"][0]) if fault["loc"] else ""
        what = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{names.get(where, where)}: {what[:1].lower()}{what[1:]}")
    return "; ".join(faults) + "."


def _listed(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]
