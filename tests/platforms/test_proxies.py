"""nginx and Caddy with the files of deploy/: a round through each, over TLS (make deploy-test)."""

from __future__ import annotations

import datetime
import os
import ssl
import subprocess
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import CoordinatorUnreachable, RequestRefused
from examples.containers import free_port
from tests.support.certificates import Authority
from tests.support.here import run_here
from tests.support.plain_http import bearer, create
from tests.support.processes import KEY, Server, wait_for

pytestmark = pytest.mark.deploy
DEPLOY = Path(__file__).parents[2] / "deploy"


@contextmanager
def nginx(folder: Path, upstream: str, clients: Path | None = None):
    """Its address, and the certificate that clients must trust.

    `clients` is the certificate of the authority of the clients' certificates.
    """
    port, plain = free_port(), free_port()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=here"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    site = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    for ours, here in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("listen 80", f"listen 127.0.0.1:{plain}"),
        ("/etc/ssl/coordinator/fullchain.pem", str(certificate)),
        ("/etc/ssl/coordinator/privkey.pem", str(key)),
        ("http://127.0.0.1:8000", upstream),
        ("coordinator.example", "localhost"),
    ):
        assert ours in site
        site = site.replace(ours, here)
    if clients is not None:
        site = uncommented(site, "ssl_client_certificate", "ssl_verify_client")
        site = site.replace("/etc/ssl/coordinator/clients.pem", str(clients))
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/errors;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    with running(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], folder):
        yield f"https://localhost:{port}", certificate


def uncommented(text: str, *begins: str) -> str:
    """The text, with these comments as settings."""
    for begin in begins:
        assert f"# {begin}" in text
        text = text.replace(f"# {begin}", begin)
    return text


@contextmanager
def caddy(folder: Path, upstream: str, clients: Path | None = None):
    """Its address, and the certificate of the authority that it makes. `clients`: as `nginx`."""
    port = free_port()
    file = folder / "Caddyfile"
    # It must neither take port 80 nor tell this machine to trust its authority.
    here = "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"
    site = (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    if clients is not None:
        site = uncommented(site, "tls {", "\tclient_auth {", "\t\tmode", "\t\ttrusted_ca")
        site = uncommented(site, "\t}", "}")
        site = site.replace("/etc/caddy/clients.pem", str(clients))
    file.write_text(here + site)
    settings = {
        **{"FL_HOST": f"https://localhost:{port}", "FL_UPSTREAM": upstream.split("//")[1]},
        **{"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)},
    }
    with running(
        ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)], folder, settings
    ):
        authority = folder / "caddy/pki/authorities/local/root.crt"
        wait_for(lambda: authority.is_file() and authority.stat().st_size)
        yield f"https://localhost:{port}", authority


@contextmanager
def running(command: list[str], folder: Path, settings: dict[str, str] | None = None):
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | (settings or {})
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """A coordinator that believes a proxy on this machine."""
    data = str(tmp_path_factory.mktemp("coordinator"))
    with Server(FL_DATA_DIR=data, FL_TRUSTED_PROXIES="127.0.0.1") as server:
        yield server


def answers(url: str, trust: ssl.SSLContext) -> bool:
    try:
        return httpx.get(f"{url}/health", verify=trust, trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.mark.timeout(240)
@pytest.mark.parametrize("proxy", [nginx, caddy], ids=["nginx", "caddy"])
def test_a_round_is_trained_through_it_and_metrics_stay_behind(behind, tmp_path, proxy):
    with proxy(tmp_path, behind.url) as (url, certificate):
        trust = ssl.create_default_context(cafile=certificate)
        wait_for(lambda: answers(url, trust))
        done = run_here(
            *("--dataset", "digits", "--clients", "1", "--clients-per-round", "1"),
            *("--rounds", "1", "--local-epochs", "1", "--workers", "1", "--server", url),
            *("--out", str(tmp_path / "run")),
            FL_ADMIN_KEY=KEY,
            SSL_CERT_FILE=str(certificate),
        )
        assert done.returncode == 0, done.stderr
        with httpx.Client(base_url=url, verify=trust, trust_env=False) as http:
            assert http.get("/metrics").status_code == 404
            assert http.get("/v1/experiments").json()[0]["state"] == "completed"
            assert "<title>" in http.get("/").text
            admin = {"Authorization": f"Bearer {KEY}"}
            with httpx.Client(
                base_url=f"{url}/v1", headers=admin, verify=trust, trust_env=False
            ) as api:
                experiment, _ = create(api, f"told at once, {datetime.datetime.now()}")
            with http.stream("GET", f"/v1/experiments/{experiment}/events") as events:
                # It has not ended, so what a proxy held back would not come.
                assert any(line.startswith("data: {") for line in events.iter_lines())
    assert httpx.get(f"{behind.url}/metrics", trust_env=False).status_code == 200


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("proxy", "form", "forged"),
    [(nginx, "nginx", "X-SSL-Client-Cert"), (caddy, "client-cert", "Client-Cert")],
    ids=["nginx", "caddy"],
)
async def test_a_client_is_known_by_its_certificate(tmp_path, monkeypatch, proxy, form, forged):
    authority = Authority()
    file = tmp_path / "clients.pem"
    file.write_bytes(authority.own.pem)
    north, south = (
        signer.sign("north").write(tmp_path, name)
        for signer, name in ((authority, "north"), (Authority(), "south"))
    )
    settings = {
        "FL_DATA_DIR": str(tmp_path / "data"),
        "FL_TRUSTED_PROXIES": "127.0.0.1",
        "FL_CLIENT_CERTIFICATES": "required",
        "FL_CLIENT_CERTIFICATE_FORM": form,
    }
    with Server(**settings) as server, proxy(tmp_path, server.url, file) as (url, certificate):
        trust = ssl.create_default_context(cafile=certificate)
        wait_for(lambda: answers(url, trust))
        with server.as_admin() as admin:
            experiment, key = create(admin, "toy")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

        async def status(files, token: str = "") -> str:
            """Enrols, or shows a token; gives the token."""
            async with CoordinatorClient(url, key, certificate=files) as caller:
                found = token or (await caller.subscribe(experiment, "k" * 40, "north")).token
                await caller.using(found).status(experiment)
                return found

        token = await status(north)
        await status(north, token)
        for given in ("", token):
            with pytest.raises(RequestRefused) as caught:
                await status(None, given)
            assert caught.value.code == "certificate-missing"
            with pytest.raises((RequestRefused, CoordinatorUnreachable)):
                await status(south, given)  # of an authority that the proxy does not trust
        shown = {forged: "anything", "X-SSL-Client-Verify": "SUCCESS"}
        path = f"{url}/v1/experiments/{experiment}/status"
        answer = httpx.get(
            path, headers=bearer(token) | shown, verify=trust, trust_env=False
        ).json()
        assert answer["code"] == "certificate-missing"
