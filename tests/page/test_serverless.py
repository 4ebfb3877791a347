"""The page in the shapes of Lambda and OpenWhisk: text as text, the rest in base64."""

from __future__ import annotations

import asyncio
import base64
import gzip

import pytest
from mangum import Mangum

from app.api.routes.page import assets
from app.config import Settings
from app.entry.openwhisk import RawWebAction
from app.main import create_app
from tests.support.federation import ADMIN_KEY


@pytest.fixture
def app():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield create_app(Settings(admin_key=ADMIN_KEY, live=False))
    asyncio.set_event_loop(None)
    loop.close()


def lambda_event(path: str, **headers: str) -> dict:
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {"http": {"method": "GET", "path": path, "sourceIp": "192.0.2.1"}},
        "isBase64Encoded": False,
    }


PATHS = ["/", f"/static/{assets.digest}/js/main.js", f"/static/{assets.digest}/page.css"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_lambda_gets_text_as_text_and_gzip_in_base64(app, path, encoding):
    types = ["text/", "application/json", "application/problem+json"]
    answer = Mangum(app, lifespan="off", text_mime_types=types)(
        lambda_event(path, **{"accept-encoding": encoding}), {}
    )
    assert answer["statusCode"] == 200
    assert answer["headers"]["content-type"].startswith("text/")
    zipped = answer["headers"].get("content-encoding") == "gzip"
    assert answer["isBase64Encoded"] == zipped == (encoding == "gzip")
    body = answer["body"]
    text = gzip.decompress(base64.b64decode(body)).decode() if zipped else body
    plain = Mangum(app, lifespan="off", text_mime_types=types)(lambda_event(path), {})
    assert text == plain["body"]


@pytest.mark.parametrize("path", PATHS)
def test_openwhisk_gets_text_as_text(app, path):
    action = Mangum(app, lifespan="off", custom_handlers=[RawWebAction])
    headers = {"accept-encoding": "gzip, br", "host": "openwhisk"}
    event = {"__ow_method": "get", "__ow_path": path, "__ow_query": "", "__ow_headers": headers}
    answer = action(event, None)
    assert answer["statusCode"] == 200
    assert "content-encoding" not in answer["headers"]
    name = path.rsplit(f"{assets.digest}/", 1)[-1]
    if name != "/":
        assert answer["body"].encode() == assets.files[name].body
    else:
        assert 'data-live="off"' in answer["body"]


def test_all_but_swagger_fits_into_what_openwhisk_answers():
    sizes = {name: len(asset.body) for name, asset in assets.files.items()}
    assert max(size for name, size in sizes.items() if "swagger" not in name) < 64 * 1024
