"""The page's files over HTTP: types, caching, compression, and what the page may load."""

from __future__ import annotations

import gzip
import hashlib
import re

import httpx
import pytest
from pydantic import ValidationError

from app.api.routes.assets import FOLDER, Assets
from app.api.routes.page import assets
from app.config import ONNX_FILES, Settings
from app.main import create_app
from tests.support.federation import ADMIN_KEY
from tests.support.plain_http import bearer
from tests.support.some import some


@pytest.fixture
async def http():
    transport = httpx.ASGITransport(create_app(Settings(admin_key=ADMIN_KEY)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


async def test_the_page_may_load_its_own_files_only_and_names_them_by_digest(http):
    answer = await http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-cache"
    named = re.findall(r'(?:src|href)="(static/[^"]+)"', answer.text)
    assert len(named) >= 5
    for path in named:
        file = await http.get(f"/{path}")
        assert file.status_code == 200
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["x-content-type-options"] == "nosniff"


async def test_every_module_that_a_module_imports_is_there():
    for path in some(FOLDER.glob("js/*.js")):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
            assert (FOLDER / "js" / name).is_file(), (path.name, name)


def test_a_file_of_others_is_as_its_package_had_it_and_has_its_licence():
    folder = FOLDER / "js/vendor"
    table = (folder / "README.md").read_text(encoding="utf-8")
    for path in some(folder.glob("*.js")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert re.search(rf"\| {path.name} \| .* \| {digest} \|", table)
        assert "Permission is hereby granted" in path.with_suffix(".LICENSE").read_text()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("js/main.js", "text/javascript; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
        ("swagger/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_files_have_their_types_and_tags(http, name, kind):
    path = f"/static/{assets.digest}/{name}"
    file = await http.get(path, headers={"Accept-Encoding": "identity"})
    assert (file.status_code, file.headers["content-type"]) == (200, kind)
    assert "content-encoding" not in file.headers
    known = await http.get(path, headers={"If-None-Match": file.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    async with http.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as zipped:
        raw = b"".join([chunk async for chunk in zipped.aiter_raw()])
    if zipped.headers.get("content-encoding") == "gzip":
        raw = gzip.decompress(raw)
    assert raw == file.content
    head = await http.head(path)
    assert (head.status_code, head.content) == (200, b"")


async def test_an_older_digest_gets_the_present_file_for_now(http):
    file = await http.get("/static/0123456789abcdef/page.css")
    assert (file.status_code, file.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fmain.py", "%2e%2e/main.py", "", "index.html"])
async def test_nothing_else_is_served(http, name):
    answer = await http.get(f"/static/{assets.digest}/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_documentation_names_no_other_host(http):
    answer = await http.get("/docs")
    assert "//" not in answer.text.replace("<!doctype", "")
    assert (await http.get("/openapi.json")).json()["openapi"].startswith("3.1")


def test_another_file_is_another_digest(tmp_path, monkeypatch):
    before = Assets().digest
    (tmp_path / "page.css").write_text("body {}")
    monkeypatch.setattr("app.api.routes.assets.FOLDER", tmp_path)
    assert Assets().digest != before


async def test_the_key_is_checked_without_changing_anything(federation):
    for key, status in [(ADMIN_KEY, 204), ("another", 401)]:
        answer = await federation.http.get("/v1/key", headers=bearer(key))
        assert answer.status_code == status


@pytest.fixture
async def with_onnx(tmp_path):
    for name in ONNX_FILES:
        (tmp_path / name).write_bytes(name.encode() * 99)
    app = create_app(Settings(admin_key=ADMIN_KEY, onnx_dir=tmp_path))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as http:
        yield http, tmp_path


KINDS = ("text/javascript; charset=utf-8", "application/wasm")


async def test_the_operators_runtime_is_served_and_its_page_may_run_it(with_onnx):
    http, folder = with_onnx
    page = await http.get("/")
    assert "script-src 'self' 'wasm-unsafe-eval'" in page.headers["content-security-policy"]
    assert 'data-onnx="on"' in page.text
    for name, kind in zip(ONNX_FILES, KINDS, strict=True):
        file = await http.get(f"/static/onnx/{name}")
        assert (file.status_code, file.headers["content-type"]) == (200, kind)
        assert (file.content, file.headers["content-encoding"]) == (name.encode() * 99, "gzip")
        assert file.headers["cache-control"] == "no-cache"
        known = {"If-None-Match": file.headers["etag"]}
        assert (await http.get(f"/static/onnx/{name}", headers=known)).status_code == 304
    (folder / "key").write_text("secret")
    for name in ("key", "..%2fkey", "ort.js"):
        assert (await http.get(f"/static/onnx/{name}")).status_code == 404


async def test_without_a_runtime_the_page_runs_no_other_code(http):
    assert 'data-onnx="off"' in (await http.get("/")).text
    assert (await http.get(f"/static/onnx/{ONNX_FILES[0]}")).status_code == 404


def test_a_folder_without_the_runtime_is_refused(tmp_path):
    (tmp_path / ONNX_FILES[0]).touch()
    with pytest.raises(ValidationError, match=f"must be a folder with {ONNX_FILES[1]}"):
        Settings(admin_key=ADMIN_KEY, onnx_dir=tmp_path)
