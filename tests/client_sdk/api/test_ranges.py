"""A model's ranges and an upload's parts at their bounds, from coordinators that err or lie."""

import asyncio
import hashlib
import json
import os
import re

import httpx
import pytest

from client_sdk import errors
from client_sdk.api import parts as file_parts
from client_sdk.api.connection import Connection, Retry
from client_sdk.api.download import download
from client_sdk.api.parts import TRIES, for_each_part
from client_sdk.api.upload import Upload
from serverless_fl.wire import parts
from serverless_fl.wire.schema import BlobInfo

DATA = bytes(range(100))
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'
FILE = BlobInfo(sha256=hashlib.sha256(DATA).hexdigest(), size=len(DATA))


class Ranges(httpx.AsyncBaseTransport):
    """Gives ranges of DATA; `change` makes another answer of one after the first."""

    def __init__(self, change=lambda body: body, *, longest=1000, data=DATA, **headers):
        self.change, self.longest, self.data, self.headers = change, longest, data, headers
        self.asked = []

    async def handle_async_request(self, request):
        self.asked.append(request)
        first, last = map(int, re.findall(r"\d+", request.headers["range"]))
        body = self.data[first : min(last + 1, first + self.longest)]
        place = f"bytes {first}-{first + len(body) - 1}/{len(self.data)}"
        headers = {"content-range": place, "etag": ETAG} | self.headers
        return httpx.Response(206, content=self.change(body) if first else body, headers=headers)


def client(transport, **options):
    return Connection("http://c", "k", retry=Retry(give_up_after=0), transport=transport, **options)


async def fetch(transport, path="/m/latest", part_bytes=30, most=1000, **options):
    async with client(transport, most_model_bytes=most) as api:
        return await download(api, path, part_bytes, **({"direct": False} | options))


async def test_what_is_given_in_smaller_ranges_than_asked_for_comes_whole():
    store = Ranges(longest=17)
    assert await fetch(store) == DATA
    assert len(store.asked) == 6
    # A few bytes of gzip can stand for gigabytes.
    assert {r.headers["accept-encoding"] for r in store.asked} == {"identity"}


async def test_a_model_of_as_many_bytes_as_are_taken_is_taken():
    assert await fetch(Ranges(), most=100) == DATA
    assert await fetch(Ranges(), most=100, file=FILE) == DATA


@pytest.mark.parametrize("file", [None, FILE])
async def test_one_byte_more_is_not(file):
    store = Ranges()
    with pytest.raises(errors.BadAnswer, match="100 bytes; at most 99"):
        await fetch(store, most=99, file=file)
    assert len(store.asked) == (1 if file is None else 0)


async def test_a_range_of_another_length_is_tried_again_and_then_given_up():
    for wrong in (lambda body: body[:-1], lambda body: body + b"x", lambda body: b""):
        store = Ranges(wrong)
        with pytest.raises(errors.CorruptDownload):
            await fetch(store)
        first = [r for r in store.asked if r.headers["range"] == "bytes=0-29"]
        assert len(first) == TRIES


async def test_another_file_than_was_announced_is_refused_however_sound_it_is():
    with pytest.raises(errors.CorruptDownload):
        await fetch(Ranges(), file=BlobInfo(sha256="0" * 64, size=100))


async def test_the_rest_is_asked_of_the_version_and_the_file_that_the_first_range_is_of():
    store = Ranges(**{"x-model-version": "1234567"})
    assert await fetch(store) == DATA
    first, *rest = store.asked
    assert first.url.path == "/v1/m/latest"
    assert "if-range" not in first.headers
    assert [(r.url.path, r.headers["if-range"]) for r in rest] == [("/v1/m/1234567", ETAG)] * 3


@pytest.mark.parametrize("version", ["", "12345678", "-1", "1/../../x", "x", "²"])
async def test_a_version_that_is_none_leads_nowhere_else(version):
    store = Ranges(**{"x-model-version": version.encode()})
    assert await fetch(store) == DATA
    assert {r.url.path for r in store.asked} == {"/v1/m/latest"}


@pytest.mark.parametrize("more", [b"", b"x"])
async def test_the_whole_file_in_one_answer_is_verified_too(more):
    def whole(request):
        return httpx.Response(200, content=DATA + more, headers={"etag": ETAG})

    if more:
        with pytest.raises(errors.CorruptDownload):
            await fetch(httpx.MockTransport(whole))
    else:
        assert await fetch(httpx.MockTransport(whole)) == DATA


async def test_a_file_that_is_held_is_named_by_its_digest_and_not_sent_again():
    def answer(request):
        return httpx.Response(304 if request.headers["if-none-match"] == ETAG else 500)

    assert await fetch(httpx.MockTransport(answer), held=DATA) == DATA


async def test_what_has_no_digest_is_not_believed():
    def whole(request):
        return httpx.Response(200, content=DATA)

    with pytest.raises(errors.CorruptDownload):
        await fetch(httpx.MockTransport(whole))


async def test_of_a_part_by_a_signed_url_no_more_is_read_than_it_has():
    """Or a store might fill memory while the list of parts looks harmless."""

    def answer(request):
        if request.url.host == "store":
            return httpx.Response(200, content=DATA + b"x")
        part = {"number": 0, "sha256": FILE.sha256, "size": 100, "url": "http://store/0"}
        return httpx.Response(200, json=[part] if request.url.params["first"] == "0" else [])

    with pytest.raises(errors.BadAnswer):
        await fetch(httpx.MockTransport(answer), direct=True)


class Store(httpx.AsyncBaseTransport):
    """Takes parts by signed URLs, with one status; says of the parts what `stored` gives."""

    def __init__(self, status, stored=lambda number: ()):
        self.status, self.stored, self.plans = status, stored, 0

    async def handle_async_request(self, request):
        if request.url.host == "store":
            return httpx.Response(self.status, content=b"<Code>no</Code>")
        stored, self.plans = self.stored(self.plans), self.plans + 1
        upload = {"url": "http://store/x", "headers": {}, "seconds": 9}
        plans = [{"number": n, "stored": n in stored, "upload": upload} for n in range(10)]
        return httpx.Response(200, json=plans)


async def test_a_part_that_an_earlier_try_has_brought_is_there():
    store = Store(412)  # If-None-Match
    async with client(store) as api:
        await Upload(api, "/x", DATA, 10, direct=True).send()
    assert store.plans == 1


async def test_a_store_that_loses_parts_again_and_again_is_given_up():
    """More parts than before are no progress when the next round has fewer again."""
    store = Store(403, lambda number: () if number % 2 else (0, 1))
    async with asyncio.timeout(30), client(store) as api:
        with pytest.raises(errors.DirectRefused):
            await Upload(api, "/x", DATA, 10, direct=True).send()
    assert store.plans == TRIES


@pytest.mark.parametrize("direct", [False, True])
async def test_more_parts_than_one_call_may_announce_are_announced_in_several(monkeypatch, direct):
    monkeypatch.setattr(parts, "MAX_ANNOUNCED", 3)
    announced, stored = [], {}

    def answer(request):
        if request.method == "PUT":
            stored[int(request.url.path.rpartition("/")[2])] = request.content
            return httpx.Response(200)
        numbers = [part["number"] for part in json.loads(request.content)["parts"]]
        announced.append(numbers)
        return httpx.Response(200, json=[plan(n) for n in numbers])

    def plan(number):
        upload = {"url": f"http://store/{number}", "headers": {}, "seconds": 9}
        return {"number": number, "stored": False, "upload": upload if direct else None}

    async with client(httpx.MockTransport(answer)) as api:
        await Upload(api, "/x", DATA, 10, direct=direct).send()
    assert announced == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert b"".join(stored[n] for n in range(10)) == DATA


@pytest.mark.parametrize(("data", "coding"), [(bytes(5000), "gzip"), (os.urandom(5000), None)])
async def test_a_part_is_packed_only_where_that_pays(data, coding):
    asked = []

    def answer(request):
        asked.append(request)
        return httpx.Response(200)

    async with client(httpx.MockTransport(answer)) as api:
        await Upload(api, "/x", data, 5000, direct=False, gzip=True).send()
    (request,) = asked
    assert request.headers.get("content-encoding") == coding


async def test_a_file_has_as_many_parts_as_any_may_have_and_no_more(monkeypatch):
    monkeypatch.setattr(file_parts, "MAX_PARTS", 10)
    Upload(None, "/x", DATA, 10, direct=False)
    with pytest.raises(errors.BadAnswer, match="more than 10 parts"):
        Upload(None, "/x", DATA + b"x", 10, direct=False)


async def test_a_few_are_done_at_a_time_and_the_first_fault_ends_the_others():
    begun, ended = [], []

    async def work(number):
        begun.append(number)
        try:
            await asyncio.sleep(0)
            if number == 0:
                raise errors.CorruptDownload("0")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(number)
            raise

    with pytest.raises(errors.CorruptDownload):
        await for_each_part(work, range(100))
    await asyncio.sleep(0)
    assert begun == list(range(file_parts.PARALLEL_PARTS))
    assert ended == begun[1:]
