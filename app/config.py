"""The coordinator's settings. Only this file reads the environment."""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
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
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.service.limits import Limits
from app.service.people.claims import ClaimNames, read_claim_roles
from app.service.people.keys import PersonKey, read_keys
from serverless_fl.domain.addresses import http_address, is_one_word
from serverless_fl.domain.experiment import FEWEST_IN_A_SUM
from serverless_fl.domain.wake_ups import WakeRules

PREFIX = "FL_"
ADMIN_KEY_CHARACTERS = 16  # at least
MOST_WEBHOOKS = 5
OF_OTHERS = frozenset({"FL_ENROL_KEY"})  # the SDK reads it, perhaps on the same machine
# Of ONNX Runtime Web: its code, and its WebAssembly.
ONNX_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


class BadSettings(RuntimeError):
    """The coordinator cannot start with these settings; the message is one sentence."""


class Settings(BaseSettings):
    """The settings of an operator. A variable in the environment has the prefix `FL_`.

    An empty variable counts as unset. A coordinator calls `read_settings` to get its settings.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        populate_by_name=True,
        extra="ignore",
        hide_input_in_errors=True,
    )
    _unknown: tuple[str, ...] = PrivateAttr(())

    role: Literal["coordinator", "helper"] = Field(
        "coordinator",
        description="helper: this process runs no experiments, but tells another operator's "
        "coordinator the sums of masks; that coordinator calls with FL_ADMIN_KEY of this one",
    )
    data_dir: Path = Field(Path("fl-data"), description="The folder of the embedded database")
    mongodb_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("MONGODB_URL", "FL_MONGODB_URL"),
        description="Use MongoDB instead: its connection string",
    )
    mongodb_database: str = "federated_learning"
    admin_key: SecretStr | None = Field(
        None,
        description="The key that creates and stops experiments. Without it the coordinator makes "
        "one, keeps it beside the database, and answers only callers on this machine",
    )
    admin_key_previous: SecretStr | None = Field(
        None,
        description="The old admin key, during a change: both keys work, and the coordinator can "
        "show enrolment keys that it made under the old one",
    )
    keys: str = Field(
        "",
        description="Keys of people beside the admin key, separated by commas, each as "
        "NAME:ROLES:SHA256, such as alice:owner+reader:9f2c...; `python -m app.entry.new_key` "
        "makes one. An admin does everything, an owner runs the experiments that it creates, and a "
        "reader looks at all and changes nothing",
    )
    oidc_issuer: str = Field(
        "",
        description="The issuer of people's tokens (OpenID Connect), such as "
        "https://login.example.org/realms/fl: the coordinator takes tokens that it has signed",
    )
    oidc_audience: str = Field(
        "",
        validate_default=True,
        description="What a token must have as its audience (aud): the coordinator's id at the "
        "issuer",
    )
    oidc_name_claim: str = Field(
        "sub",
        min_length=1,
        description="The claim that names a person in records. Choose none that people can change "
        "themselves",
    )
    oidc_roles_claim: str = Field(
        "roles",
        min_length=1,
        description="The claim that has a person's roles, or a path to it, such as "
        "realm_access.roles",
    )
    oidc_roles: str = Field(
        "",
        description="The roles of the values of that claim, separated by commas, such as "
        "fl-team=owner+reader; by default admin, owner and reader stand for themselves",
    )
    public_views: bool = Field(
        True,
        description="Everybody who reaches the coordinator sees experiments, rounds, clients' "
        "names and metrics. false: only people with a key, and members of the experiment",
    )
    secret_id: str | None = Field(
        None,
        description="On AWS: a secret, or an SSM parameter with a leading slash; its JSON holds "
        "MONGODB_URL and FL_ADMIN_KEY",
    )
    s3_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="Keep weights in this bucket instead of the database; clients then move "
        "weights by presigned URLs",
    )
    s3_url_seconds: int = Field(
        900,
        ge=60,
        le=7 * 86400,
        description="A presigned URL is valid for at most so long; a URL for an upload is valid "
        "for as long as the announced parts need on a slow line",
    )
    s3_public_endpoint: str | None = Field(
        None,
        description="The origin under which clients reach the bucket, such as "
        "https://s3.example.org, if it differs from the coordinator's",
    )
    live: bool = Field(True, description="Server-sent events; off if answers cannot be streamed")
    part_bytes: int = Field(Limits.part_bytes, ge=64 * 1024, le=8 * 1024**2)
    max_model_bytes: int = Field(Limits.max_model_bytes, ge=1024)
    answer_bytes: int | None = Field(
        Limits.answer_bytes,
        ge=64 * 1024,
        description="The most bytes of a model in one answer, if the platform has such a limit",
    )
    lease_seconds: float = Field(Limits.lease_seconds, gt=0)
    step_seconds: float = Field(
        Limits.step_seconds,
        gt=0,
        description="Time for aggregation in one call; the next call goes on",
    )
    step_updates: int = Field(
        Limits.step_updates,
        ge=2,
        description="The most updates that one call reads for an aggregation, a part of each",
    )
    tick_seconds: float = Field(
        60.0,
        ge=0,
        description="Seconds after which a server advances the open experiments again, even "
        "without a request; 0: never, a scheduler does it",
    )
    abandon_days: float = Field(
        Limits.abandon_days,
        gt=0,
        description="An experiment that gets no initial weights for so long is stopped",
    )
    poll_min_seconds: float = Field(Limits.poll_min_seconds, gt=0)
    poll_max_seconds: float = Field(Limits.poll_max_seconds, gt=0)
    hold_seconds: float = Field(
        20.0,
        ge=0,
        le=25,
        description="The coordinator holds a waiting client's answer back for at most so long, "
        "until there is something to do (long polling); 0: never, as a held request costs money",
    )
    rate_per_second: float = Field(
        50.0,
        ge=0,
        description="Requests a second that one process takes from a client in the long run. "
        "0: no limit",
    )
    rate_burst: int = Field(
        500, ge=1, description="Requests that one process takes from a client at once"
    )
    rate_address_factor: float = Field(
        20.0,
        gt=0,
        description="An address may send this many times the requests of a client, because the "
        "clients of a hospital, or of a simulation, share one address",
    )
    connections_per_address: int = Field(
        500,
        ge=1,
        description="The most connections of one address that wait for a request; for one more, "
        "`python -m app` closes the oldest",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of trusted proxies, separated by commas: the "
        "coordinator believes X-Forwarded-For and X-Forwarded-Proto only from them",
    )
    client_certificates: Literal["off", "optional", "required"] = Field(
        "off",
        description="Certificates that clients show to the proxy in front. optional: a client that "
        "enrols with one has to show it from then on; required: no client takes part without one",
    )
    client_certificate_form: Literal["nginx", "client-cert", "alb", "api-gateway"] = Field(
        "nginx",
        description="How the proxy passes a certificate on. nginx: X-SSL-Client-Cert and "
        "X-SSL-Client-Verify; client-cert: Client-Cert of RFC 9440 (Caddy, HAProxy); alb: AWS's "
        "load balancer in its mode verify; api-gateway: mutual TLS of an API Gateway before Lambda",
    )
    base_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*/?$",
        description="The path that a gateway puts before the coordinator's own paths and does not "
        "remove, such as /federated",
    )
    onnx_dir: Path | None = Field(
        None,
        description="A folder with two files of the npm package onnxruntime-web, "
        f"{' and '.join(ONNX_FILES)}: the page then tries exported models (docs/coordinator.md)",
    )
    max_experiments: int = Field(
        Limits.max_experiments,
        ge=1,
        description="The most experiments that have not ended, at a time",
    )
    max_clients: int = Field(
        Limits.max_clients, ge=1, description="The most clients of one experiment"
    )
    prices: Path | None = Field(
        None, description="A table of prices for the estimated cost, instead of the built-in one"
    )
    webhook_urls: str = Field(
        "",
        description="Addresses that are told when an experiment ends, pauses or stalls, separated "
        "by commas, such as https://example.org/hook",
    )
    webhook_secret: SecretStr | None = Field(
        None,
        validate_default=True,
        description="The key that signs what webhooks are told: whsec_ and 24 to 64 bytes in "
        "base64",
    )
    wake_hosts: str = Field(
        "",
        description="Where the coordinator may call clients to wake them up, separated by commas: "
        "hosts such as *.example.org, networks such as 10.20.0.0/16, and topics of SNS; by "
        "default nowhere",
    )
    helper_url: str | None = Field(
        None,
        description="The address of another operator's helper, for experiments with "
        "secure_aggregation = helper, such as https://helper.example.org",
    )
    helper_key: SecretStr | None = Field(
        None,
        validate_default=True,
        description="The key with which this coordinator calls its helper: FL_ADMIN_KEY there",
    )
    helper_fewest: int = Field(
        FEWEST_IN_A_SUM,
        ge=FEWEST_IN_A_SUM,
        le=1000,
        description="In the role helper: the fewest updates in a sum that it opens",
    )
    helper_pins: str = Field(
        "",
        description="In the role helper: whose updates may be in a sum, as in a file of pins of "
        "the parties (docs/privacy.md); in one line, separated by commas",
    )
    cors_origins: str = Field(
        "",
        description="Origins of web pages that may call, separated by commas, such as "
        "https://example.org; * for all. By default browsers let no page of another origin read "
        "an answer",
    )

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console if stderr is a terminal, else JSON lines on stdout"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics: Literal["on", "embedded", "off"] = Field(
        "on",
        description="on: for Prometheus at /metrics; embedded: log lines for CloudWatch, as the "
        "Lambda entry writes them",
    )
    otel_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("FL_OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Send traces to this OTLP collector, such as http://localhost:4318",
    )

    @field_validator("admin_key", "admin_key_previous")
    @classmethod
    def _can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        """Check the key, without the line break at the end of a secret's file."""
        if value is None:
            return None
        key = value.get_secret_value().strip()
        if len(key) < ADMIN_KEY_CHARACTERS:
            raise ValueError(
                f"must have at least {ADMIN_KEY_CHARACTERS} characters, not {len(key)}: make a "
                "random one, for example with `openssl rand -hex 32`"
            )
        if not (key.isascii() and key.isprintable()):
            raise ValueError("must hold only printable ASCII characters, as an HTTP header does")
        return SecretStr(key)

    @field_validator("onnx_dir")
    @classmethod
    def _with_its_files(cls, value: Path | None) -> Path | None:
        lacking = [name for name in ONNX_FILES if value and not (value / name).is_file()]
        if lacking:
            raise ValueError(f"must be a folder with {' and '.join(lacking)}")
        return value

    @field_validator("keys")
    @classmethod
    def _of_people(cls, value: str) -> str:
        read_keys(_listed(value))
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer_by_https(cls, value: str) -> str:
        if value:
            parts = urlsplit(value)
            here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
            if not (parts.scheme == "https" or here) or not parts.hostname or parts.query:
                raise ValueError("must be an https:// address, exactly as the issuer's tokens say")
        return value

    @field_validator("oidc_audience")
    @classmethod
    def _audience_of_issuer(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("oidc_issuer") and not value:
            raise ValueError(
                "must be set where FL_OIDC_ISSUER is: else a token for any other service of the "
                "issuer would do"
            )
        return value

    @field_validator("oidc_roles")
    @classmethod
    def _roles_of_claim(cls, value: str) -> str:
        read_claim_roles(_listed(value))
        return value

    @field_validator("helper_url")
    @classmethod
    def _address_only(cls, value: str | None) -> str | None:
        if value is not None:
            parts = http_address(value)
            if parts is None or parts.query or parts.fragment or not is_one_word(value):
                raise ValueError("must be an address such as https://helper.example.org")
        return value

    @field_validator("helper_key")
    @classmethod
    def _of_the_helper(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            if info.data.get("helper_url"):
                raise ValueError("must be set where FL_HELPER_URL is: FL_ADMIN_KEY of the helper")
            return None
        key = value.get_secret_value().strip()
        if not (key and key.isascii() and key.isprintable()):
            raise ValueError("must hold only printable ASCII characters, as an HTTP header does")
        return SecretStr(key)

    @field_validator("helper_pins")
    @classmethod
    def _pins_only(cls, value: str) -> str:
        if value.strip():
            # Imported here: few coordinators need the package of ciphers.
            from serverless_fl.privacy.secure import pin_file

            try:
                pin_file.read(_pin_lines(value))
            except ValueError as error:
                raise ValueError(f"the text of the pins{error}") from error
        return value

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

    @field_validator("webhook_urls")
    @classmethod
    def _addresses_only(cls, value: str) -> str:
        found = _listed(value)
        if len(found) > MOST_WEBHOOKS:
            raise ValueError(f"must name at most {MOST_WEBHOOKS} addresses")
        for url in found:
            if http_address(url) is None:
                raise ValueError(
                    "each must be an http:// or https:// address without a user's name, such as "
                    "https://example.org/hook"
                )
            if not is_one_word(url):
                raise ValueError("each must be of printable ASCII characters")
        return value

    @field_validator("wake_hosts")
    @classmethod
    def _rules_only(cls, value: str) -> str:
        WakeRules(_listed(value))
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _signs(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        how = "make one with `echo whsec_$(openssl rand -base64 32)`"
        if value is None:
            if info.data.get("webhook_urls"):
                raise ValueError(f"must be set where FL_WEBHOOK_URLS is: {how}")
            return None
        try:
            key = _webhook_key(value)
        except ValueError:
            key = b""
        if not 24 <= len(key) <= 64:
            raise ValueError(f"must be whsec_ and 24 to 64 bytes in base64: {how}")
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
                raise ValueError("must not be a network of all addresses: every caller could lie")
        return value

    @property
    def person_keys(self) -> list[PersonKey]:
        """The keys of people beside the admin key."""
        return read_keys(_listed(self.keys))

    @property
    def claim_names(self) -> ClaimNames:
        """The claims of a token that name a person and its roles."""
        values = read_claim_roles(_listed(self.oidc_roles))
        names = ClaimNames(self.oidc_name_claim, self.oidc_roles_claim)
        return replace(names, values=values) if values else names

    @property
    def limits(self) -> Limits:
        """The settings that are limits; what is no setting keeps its default."""
        names = {field.name for field in fields(Limits)} & type(self).model_fields.keys()
        return Limits(**{name: getattr(self, name) for name in names})

    @property
    def allowed_origins(self) -> list[str]:
        return _listed(self.cors_origins)

    @property
    def webhooks(self) -> tuple[list[str], bytes]:
        """The addresses, and the key that signs."""
        key = b"" if self.webhook_secret is None else _webhook_key(self.webhook_secret)
        return _listed(self.webhook_urls), key

    @property
    def wake_rules(self) -> WakeRules | None:
        """Where clients may be woken up; None: nowhere."""
        rules = _listed(self.wake_hosts)
        return WakeRules(rules) if rules else None

    @property
    def pins(self) -> str:
        """Whose updates may be in a sum, a line each; empty: anybody's."""
        return _pin_lines(self.helper_pins)

    @property
    def proxies(self) -> list[str]:
        return _listed(self.trusted_proxies)

    @property
    def unknown(self) -> Mapping[str, str | None]:
        """Set variables that are no settings, each with the setting of the most similar name."""
        known = sorted(_names())
        return {
            name: next(iter(get_close_matches(name.upper(), known, 1)), None)
            for name in self._unknown
        }


def read_settings(given: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings from `given`, by the variables' names, and then from the environment.

    Raises BadSettings, which names the variable and shows no value.
    """
    own = {name: value for name, value in (given or {}).items() if value not in (None, "")}
    try:
        settings = Settings(**_by_alias(own))
    except ValidationError as error:
        raise BadSettings(_sentence(error)) from None  # pydantic's own text may quote a secret
    settings._unknown = tuple(_unknown({*own, *_set(os.environ)}))
    return settings


def _by_alias(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values by the names that pydantic takes; the first alias of a field wins."""
    first = _first_names()
    found = {}
    for name, field in reversed(_names().items()):
        if name in given:
            alias = Settings.model_fields[field].validation_alias
            found[first[field] if alias else field] = given[name]
    return found


def _set(environment: Mapping[str, str]) -> Iterable[str]:
    return (name for name, value in environment.items() if value)


def _names() -> dict[str, str]:
    """Give each variable's name, with the field that it sets."""
    found: dict[str, str] = {}
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [PREFIX + field.upper()]
        found |= {str(name): field for name in names}
    return found


def _first_names() -> dict[str, str]:
    """Give each field's first variable."""
    return {field: name for name, field in reversed(_names().items())}


def _unknown(names: Iterable[str]) -> list[str]:
    known = {*_names(), *OF_OTHERS}
    return sorted(n for n in names if n.upper().startswith(PREFIX) and n.upper() not in known)


def _sentence(error: ValidationError) -> str:
    names = _first_names()
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        where = str(fault["loc"][0]) if fault["loc"] else ""
        what = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{names.get(where, where)}: {what[:1].lower()}{what[1:]}")
    return "; ".join(faults) + "."


def _webhook_key(secret: SecretStr) -> bytes:
    """The bytes of a secret. Raises ValueError."""
    text = secret.get_secret_value().strip()
    if not text.startswith("whsec_"):
        raise ValueError("it does not begin with whsec_")
    return base64.b64decode(text.removeprefix("whsec_"), validate=True)


def _pin_lines(value: str) -> str:
    """Commas part a single line, which is all that some platforms' parameters can be."""
    value = value.strip()
    return value if "\n" in value else value.replace(",", "\n")


def _listed(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]
