"""A helper in this process: its real application over a store of its own, behind the real port."""

from __future__ import annotations

import httpx

from app.config import Settings
from app.main import create_app
from app.service.coordinator import Context, Repository
from app.service.helper.helping import Helping
from app.service.helper.service import HelperService
from app.store.helper import HttpHelper
from tests.support.masked import begin

KEY = "a-key-that-a-helper-asks-for"
HELPED = {"secure_aggregation": "helper"}


class NearHelper(HttpHelper):
    """Calls a helper's application in this process. While it is `away`, nobody answers."""

    def __init__(self, app, key=KEY):
        super().__init__("http://helper", key)
        self.asked, self.away = [], False
        self._http = httpx.AsyncClient(
            base_url="http://helper",
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            headers={"Authorization": f"Bearer {key}"},
        )

    async def _exchange(self, method, path, body):
        if self.away:
            raise ConnectionRefusedError("nobody is there")
        headers = {"Content-Type": "application/json"} if body is not None else {}
        answer = await self._http.request(method, path, content=body, headers=headers)
        self.asked.append((path, answer.status_code))
        return answer.status_code, answer.content


async def helping(documents, blobs, clock, *, fewest=3, pins=None, limits=None):
    """A helper's application over a store."""
    app = create_app(Settings(role="helper", admin_key=KEY, part_bytes=1 << 20))
    more = {} if limits is None else {"limits": limits}
    context = Context(repo=Repository(documents), blobs=blobs, clock=clock, **more)
    service = await Helping.of(context, fewest, pins, clock)
    app.state.coordinator = HelperService(context, service, KEY)
    return app


def fingerprint(app):
    return app.state.coordinator.helping.helper.key.hex()


async def join_helper(federation, store, **options):
    """Give the federation's coordinator a helper over the other store; gives it and its key."""
    app = await helping(store.documents, store.blobs, federation.clock, **options)
    near = NearHelper(app)
    federation.app.state.coordinator = federation.coordinator(helper=near)
    return near, fingerprint(app)


async def begin_helped(federation, store, told=None, memory=None, options=None, **changes):
    """As `tests.support.masked.begin`; gives the helper, too."""
    near, key = await join_helper(federation, store, **(options or {}))
    begun = await begin(federation, told, memory, **HELPED | {"helper_key": key} | changes)
    return near, *begun
