"""Behind a gateway that leaves its base path on."""

import httpx
import pytest

from app.api.edge.prefix import strip_base
from app.config import Settings
from app.main import create_app
from tests.support.federation import ADMIN_KEY


def caller(federation, base):
    app = create_app(Settings(admin_key=ADMIN_KEY, base_path=base))
    app.state.coordinator = federation.app.state.coordinator
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://c", follow_redirects=True)


@pytest.mark.parametrize("base", ["/fl", "/fl/", "/a/b.c", "/v1"])
async def test_the_coordinator_is_found_below_it(federation, base):
    experiment, _ = await federation.create()
    at = base.rstrip("/")
    async with caller(federation, base) as http:
        for path in ("/health", "/v1/experiments", f"/v1/experiments/{experiment}", "/docs"):
            below = await http.get(f"{at}{path}")
            assert below.status_code == 200, path
        page = await http.get(at)
        assert str(page.url) == f"http://c{at}/"
        assert page.headers["content-security-policy"].startswith("default-src 'self'")
        led = await http.get(f"{at}/docs/")
        assert (led.status_code, str(led.url)) == (200, f"http://c{at}/docs")
        assert (await http.get("/health")).status_code == 200  # a probe, past the gateway
        assert (await http.get(f"{at}x/health")).status_code == 404


def test_a_path_begins_with_whole_segments():
    assert strip_base("/fl", "/fl") == ""
    assert strip_base("/fl", "/fl/") == "/"
    assert strip_base("/fl", "/fl/fl/x") == "/fl/x"
    assert strip_base("/fl", "/flx") is None
    assert strip_base("/fl", "/x/fl") is None
