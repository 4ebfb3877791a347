"""A coordinator that lies: what its answers may cost a client, and where they may lead it."""

import asyncio
import gzip
import hashlib
import json
import tracemalloc

import httpx
import pytest

from client_sdk import errors
from client_sdk.api import answers, parts
from client_sdk.api.client import STATUS_BYTES, CoordinatorClient
from client_sdk.api.connection import Retry
from client_sdk.api.signed_urls import require_signed
from client_sdk.participant import Participant
from serverless_fl.wire.schema import BlobInfo

MODEL = b"m" * 1000
DIGEST = hashlib.sha256(MODEL).hexdigest()
FILE = BlobInfo(sha256=DIGEST, size=len(MODEL))


class Endless(httpx.AsyncByteStream):
    """A body that never ends; it keeps how much of it was read."""

    def __init__(self):
        self.read = 0

    async def __aiter__(self):
        while True:
            self.read += 100_000
            yield b"[" * 100_000


class Lying(httpx.AsyncBaseTransport):
    """Answers each request by `answer(request)`; keeps the requests."""

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    async def handle_async_request(self, request):
        self.seen.append(request)
        assert len(self.seen) < 500
        return self.answer(request)


def lied_to(answer, url="http://coordinator", **options):
    way = answer if isinstance(answer, Lying) else Lying(answer)
    return CoordinatorClient(url, "key", retry=Retry(give_up_after=0), transport=way, **options)


@pytest.mark.parametrize(("status", "most"), [(200, answers.ANSWER_BYTES), (409, 65_536)])
async def test_an_endless_answer_is_read_no_further_than_it_may_be_long(status, most):
    body = Endless()
    async with lied_to(lambda _: httpx.Response(status, stream=body)) as api:
        with pytest.raises((errors.BadAnswer, errors.StateConflict)):
            await api.experiment("x")
    assert most <= body.read <= most + 200_000


BAD = b",".join([b'"\x7f"'] * 100_000)
FIELDS = b",".join(b'"%d":""' % n for n in range(30_000))
METRICS = b'[{"version":0,"evaluations":[{"metrics":{%b}}]}]' % FIELDS


@pytest.mark.parametrize(
    ("ask", "body"),
    [
        (lambda api: api.shard("x"), b'{"indices":[%b]}' % BAD),
        (lambda api: api.models("x"), b"[%b]" % BAD),
        (lambda api: api.models("x"), METRICS),
        (lambda api: api.audit("x"), b"[%b]" % BAD),
        (lambda api: api.experiment("x"), b'{"history":[%b]}' % BAD),
        (lambda api: api.experiment("x"), b'{"config":{%b}}' % FIELDS),
        (lambda api: api.experiment("x"), b'{"cost":{"items":{%b}}}' % FIELDS),
        (lambda api: api.round("x", 1), b'{"cohort":[%b]}' % BAD),
        (lambda api: api.round("x", 1), b'{"updates":[%b]}' % BAD),
        (lambda api: api.download_model("x", 0, direct=True), b"[%b]" % BAD),
        (lambda api: api.upload_update("x", 1, MODEL, 1, {}, 500), b"[%b]" % BAD),
    ],
)
async def test_of_many_faults_in_an_answer_few_are_kept(ask, body):
    async with lied_to(lambda _: httpx.Response(200, content=body)) as api:
        with pytest.raises(errors.BadAnswer) as caught:
            await ask(api)
    assert caught.value.__cause__.error_count() < 100
    assert len(str(caught.value)) < 500


async def test_an_answer_that_drips_is_given_up(monkeypatch):
    now = 0.0

    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self):
            nonlocal now
            while True:
                now += 50  # within the time for one byte
                yield b" "

    monkeypatch.setattr(answers.time, "monotonic", lambda: now)
    async with lied_to(lambda _: httpx.Response(200, stream=Dripping())) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match="nothing came in time"):
            await api.experiment("x")
    assert now < 1000


async def test_a_slow_line_is_no_drip(monkeypatch):
    now = 0.0

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self):
            nonlocal now
            for start in range(0, 1_000_000, 50_000):
                now += 49  # seconds; a kilobyte in each
                yield big[start : start + 50_000]

    big = bytes(1_000_000)
    headers = {"ETag": f'"{hashlib.sha256(big).hexdigest()}"'}
    monkeypatch.setattr(answers.time, "monotonic", lambda: now)
    async with lied_to(lambda _: httpx.Response(200, headers=headers, stream=Slow())) as api:
        assert await api.download_model("x", 0) == big


async def test_the_answer_to_a_poll_is_short():
    body = Endless()
    async with lied_to(lambda _: httpx.Response(200, stream=body)) as api:
        with pytest.raises(errors.BadAnswer, match=str(STATUS_BYTES)):
            await api.status("x")
    assert body.read <= STATUS_BYTES + 200_000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "x\x1b[2J"])
async def test_no_coding_is_taken_for_none_was_asked_for(coding):
    packed = gzip.compress(bytes(50_000_000))

    def answer(request):
        assert request.headers["accept-encoding"] == "identity"
        headers = [(b"content-encoding", coding.encode("latin-1"))]
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(packed))

    tracemalloc.start()
    try:
        async with lied_to(answer) as api:
            for ask in (api.experiment("x"), api.download_model("x", 0)):
                with pytest.raises(errors.BadAnswer, match="not asked for") as caught:
                    await ask
                assert str(caught.value).isprintable()
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def ranged(total, body):
    headers = {"Content-Range": f"bytes 0-{max(len(body) - 1, 0)}/{total}", "ETag": f'"{DIGEST}"'}
    return lambda _: httpx.Response(206, headers=headers, content=body)


@pytest.mark.parametrize(
    ("total", "body"),
    [
        (999_999_999_999_999, b"m"),
        (30_000_000, b"m"),
        (10**9, b"m" * 1000),
        (10, b""),
        (0, b""),
        (len(MODEL) + 1, MODEL[:100]),
    ],
)
@pytest.mark.parametrize("file", [FILE, None])
async def test_a_size_that_is_only_said_makes_no_work(total, body, file):
    way = Lying(ranged(total, body))
    async with lied_to(way, most_model_bytes=10**8) as api:
        with pytest.raises((errors.BadAnswer, errors.CorruptDownload)):
            await api.download_model("x", 0, part_bytes=1 << 20, file=file)
    assert len(way.seen) < 50
    assert len(asyncio.all_tasks()) == 1


async def test_a_model_that_is_announced_too_large_is_not_asked_for():
    way = Lying(lambda _: httpx.Response(500))
    async with lied_to(way, most_model_bytes=999) as api:
        with pytest.raises(errors.BadAnswer, match="1000 bytes"):
            await api.download_model("x", 0, file=FILE)
    assert not way.seen


async def test_a_model_is_read_no_further_than_it_was_announced():
    for file in (FILE, None):
        body = Endless()
        async with lied_to(
            lambda _, body=body: httpx.Response(200, stream=body), most_model_bytes=2000
        ) as api:
            with pytest.raises(errors.BadAnswer):
                await api.download_model("x", 0, file=file)
        assert body.read == 100_000


async def test_another_model_than_the_announced_one_is_not_taken():
    other = b"o" * len(MODEL)
    headers = {"ETag": f'"{hashlib.sha256(other).hexdigest()}"'}
    async with lied_to(lambda _: httpx.Response(200, headers=headers, content=other)) as api:
        with pytest.raises(errors.CorruptDownload):
            await api.download_model("x", 0, file=FILE)


def parts_of(pages, url="http://store/1"):
    """Lists parts of 10 bytes in pages without end, or so many."""

    def answer(request):
        first = int(request.url.params["first"])
        found = [
            {"number": first + n, "sha256": DIGEST, "size": 10, "url": url}
            for n in range(1 if first < pages else 0)
        ]
        return httpx.Response(200, json=found)

    return answer


async def test_parts_without_end_are_not_listed_to_the_end():
    way = Lying(parts_of(10**9))
    async with lied_to(way) as api:
        with pytest.raises(errors.BadAnswer, match="more than"):
            await api.download_model("x", 0, direct=True, file=FILE)
    assert len(way.seen) <= len(MODEL) // 10 + 2


async def test_parts_must_come_in_their_order():
    async with lied_to(
        lambda _: httpx.Response(200, json=[{**PART, "number": 1}, {**PART, "number": 0}])
    ) as api:
        with pytest.raises(errors.BadAnswer, match="order"):
            await api.download_model("x", 0, direct=True)


PART = {"number": 0, "sha256": DIGEST, "size": len(MODEL), "url": "http://store/1"}


async def test_a_part_is_read_no_further_than_its_size():
    body = Endless()

    def answer(request):
        if request.url.host == "store":
            return httpx.Response(200, stream=body)
        return httpx.Response(200, json=[] if "first=1" in str(request.url) else [PART])

    async with lied_to(answer) as api:
        with pytest.raises(errors.BadAnswer):
            await api.download_model("x", 0, direct=True)
    assert body.read <= 400_000


@pytest.mark.parametrize("numbers", [[-1], [1], [0, 0], [], [0, 1, 2], [1, 0], [19_999]], ids=str)
async def test_parts_are_planned_as_they_were_announced(numbers):
    plans = [{"number": n, "stored": False} for n in numbers]
    way = Lying(lambda _: httpx.Response(200, json=plans))
    async with lied_to(way) as api:
        with pytest.raises(errors.BadAnswer):
            await api.upload_update("x", 1, MODEL, 1, {}, 500)
    assert [request.method for request in way.seen] == ["POST"]


async def test_tiny_parts_are_not_sent():
    way = Lying(lambda _: httpx.Response(500))
    async with lied_to(way) as api:
        with pytest.raises(errors.BadAnswer, match="20000 parts"):
            await api.upload_update("x", 1, bytes(1_000_000), 1, {}, 1)
    assert not way.seen


async def test_an_update_beyond_what_the_coordinator_takes_is_not_sent():
    way = Lying(lambda _: httpx.Response(500))
    async with lied_to(way) as api:
        with pytest.raises(errors.RequestRefused, match="no more than 999") as caught:
            await api.upload_update("x", 1, MODEL, 1, {}, 500, most=999)
    assert caught.value.code == "too-large"
    assert not way.seen


# Where signed URLs may lead


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://store/x", "https://coordinator"),
        ("file:///etc/passwd", "http://coordinator"),
        ("ftp://store/x", "https://coordinator"),
        ("https://name:word@store/x", "https://coordinator"),
        ("https://", "https://coordinator"),
        ("https://store:99999/x", "https://coordinator"),
        ("https://[::1/x", "https://coordinator"),
        ("http://169.254.169.254/latest/meta-data", "http://coordinator"),
        ("http://[fe80::1]/x", "http://coordinator"),
        ("http://[::ffff:169.254.169.254]/x", "http://coordinator"),
    ],
)
def test_a_signed_url_that_leads_elsewhere_is_not_followed(url, base):
    with pytest.raises(errors.BadAnswer):
        require_signed(url, {}, base)


@pytest.mark.parametrize(
    "header",
    [
        *("Authorization", "Cookie", "Host", "X-aws-ec2-metadata-token-ttl-seconds", "Range"),
        *("X-Forwarded-For", "Metadata-Flavor", "Content-Length", "Transfer-Encoding"),
    ],
)
def test_a_header_that_no_signature_needs_is_not_sent(header):
    with pytest.raises(errors.BadAnswer, match="header"):
        require_signed("https://store/x", {header: "1"}, "https://coordinator")


@pytest.mark.parametrize("value", ["a\r\nX: y", "ü", "x" * 5000, "\x00"])
def test_a_header_whose_value_cannot_be_one_is_not_sent(value):
    with pytest.raises(errors.BadAnswer, match="header"):
        require_signed("https://store/x", {"If-None-Match": value}, "https://coordinator")


def test_what_our_own_coordinators_sign_is_followed():
    headers = {"x-amz-checksum-sha256": "abc=", "If-None-Match": "*"}
    require_signed("https://bucket.s3.eu-west-1.amazonaws.com/k?a=b", headers, "https://c")
    require_signed("http://127.0.0.1:9000/bucket/k", headers, "http://127.0.0.1:8000")
    require_signed("https://bucket.s3.amazonaws.com/k", {}, "http://127.0.0.1:8000")


async def test_no_key_goes_along_with_a_signed_url():
    def answer(request):
        if request.url.host == "store":
            assert "authorization" not in request.headers
            return httpx.Response(200, content=MODEL)
        assert request.headers["authorization"] == "Bearer key"
        return httpx.Response(200, json=[] if "first=1" in str(request.url) else [PART])

    async with lied_to(answer) as api:
        assert await api.download_model("x", 0, direct=True, file=FILE) == MODEL


async def test_s3s_own_code_is_in_the_message():
    body = (
        b"<?xml version='1.0'?><Error><Code>SlowDownPlease</Code><Message>\x1b[2J</Message></Error>"
    )

    def answer(request):
        if request.url.host == "store":
            return httpx.Response(403, content=body)
        return httpx.Response(200, json=[] if "first=1" in str(request.url) else [PART])

    async with lied_to(answer) as api:
        with pytest.raises(errors.DirectRefused, match=r"store answered 403 \(SlowDownPlease\)"):
            await api.download_model("x", 0, direct=True)


# What is shown


async def test_a_refusal_is_shown_without_control_characters():
    escape = "\x1b]0;title\x07\x1b[2J\u202efull"
    problem = {"title": escape, "status": 409, "code": f"full{escape}", "detail": escape}
    for answer in (
        httpx.Response(409, json=problem),
        httpx.Response(409, text=escape),
        httpx.Response(409, json=problem, headers={"content-type": "text/html"}),
        httpx.Response(200, text=escape),
        httpx.Response(200, json={escape: 1}),
        httpx.Response(302, headers=[(b"location", escape.encode())]),
    ):
        async with lied_to(lambda _, answer=answer: answer) as api:
            with pytest.raises(errors.ClientError) as caught:
                await api.experiment("x")
            assert str(caught.value).isprintable()
            assert getattr(caught.value, "code", "").isprintable()


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://elsewhere.example/v1/experiments/x", "https://elsewhere.example:"),
        ("/login?next=1", "http://coordinator/login"),
        ("http://x:port/", "http://x:port/"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_its_target_is_said(status, location, shown):
    way = Lying(lambda _: httpx.Response(status, headers={"Location": location}))
    async with lied_to(way) as api:
        with pytest.raises(errors.RequestRefused, match=f"leads to {shown}"):
            await api.experiment("x")
    assert len(way.seen) == 1


# Shards


@pytest.mark.parametrize(
    "indices",
    [[10**12, -1, 5], [7] * 5, [2, 1], [-1, 0], [0, 40], [0, 10**30], [True, False], [0.5], ["x"]],
    ids=str,
)
async def test_a_shard_of_other_examples_than_there_are_is_none(indices):
    shard = {"client_id": "client-01", "dataset": "d", "dataset_size": 40, "indices": indices}
    found = {"client_id": "client-01", "token": "1.tok_x", "shard_size": 5, "shard": shard}
    text = json.dumps(found)
    async with lied_to(lambda _: httpx.Response(201, text=text)) as api:
        participant = Participant(api, "x", "k" * 40, None)
        with pytest.raises(errors.BadAnswer):
            await participant.enrol("key")


async def test_a_shard_of_another_data_set_is_none():
    shard = {"client_id": "client-01", "dataset": "d", "dataset_size": 50, "indices": [1, 49]}
    found = {"client_id": "client-01", "token": "1.tok_x", "shard_size": 2, "shard": shard}
    async with lied_to(lambda _: httpx.Response(201, json=found)) as api:
        with pytest.raises(errors.BadAnswer, match="shares out 50 examples"):
            await Participant(api, "x", "k" * 40, None, examples=40).enrol("key")
        await Participant(api, "x", "k" * 40, None, examples=50).enrol("key")


def test_few_tasks_work_through_many_items():
    """A list of parts may be long: no task is made for each."""
    most = 0

    async def work(item):
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        await asyncio.sleep(0)

    asyncio.run(parts.for_each_part(work, range(1000)))
    assert most == parts.PARALLEL_PARTS + 1
