"""What S3 does beyond the contract of blobs: signed requests, and its faults as ours."""

import asyncio
import hashlib
from contextlib import suppress

import httpx
import pytest
from pydantic import ValidationError

from app.config import Settings
from app.store import s3, s3_check
from app.store.port import DirectBlobs
from app.store.s3 import S3Blobs
from app.store.s3_check import tell_unenforced, unenforced
from app.store.sqlite import open_sqlite
from serverless_fl.domain.errors import StoreDenied, StoreMissing, StoreRefused, StoreUnavailable


async def test_a_signed_put_stores_and_a_signed_get_reads(bucket):
    blobs = S3Blobs(bucket, url_seconds=60)
    assert isinstance(blobs, DirectBlobs)
    data = b"weights" * 1000
    put = await blobs.sign_put("a/1", hashlib.sha256(data).hexdigest(), len(data))
    async with httpx.AsyncClient(trust_env=False) as http:
        first = await http.request(put.method, put.url, headers=put.headers, content=data)
        again = await http.request(put.method, put.url, headers=put.headers, content=b"other")
        get = await blobs.sign_get("a/1")
        found = await http.request(get.method, get.url, headers=get.headers)
    assert (first.status_code, again.status_code) == (200, 412)
    assert found.content == data


async def test_what_is_signed_holds_the_length_the_digest_and_that_nothing_is_there(bucket):
    """S3 enforces what is signed; moto does not, so the URL itself is looked at."""
    put = await S3Blobs(bucket, url_seconds=77).sign_put("a/1", "0a" * 32, 5)
    query = httpx.URL(put.url).params
    signed = query["X-Amz-SignedHeaders"].split(";")
    assert {"content-length", "x-amz-checksum-sha256", "if-none-match", "host"} <= set(signed)
    assert query["X-Amz-Expires"] == str(put.seconds) == "77"
    assert put.headers["x-amz-checksum-sha256"] == "CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo="


def conflicting(blobs, times):
    """S3 answers the next puts with 409, as where another request for the key is under way."""
    client, left = blobs._client, iter(range(times))
    put_object = client.put_object

    def conflict(**arguments):
        if next(left, None) is None:
            return put_object(**arguments)
        error = {"Error": {"Code": "ConditionalRequestConflict", "Message": "Try again."}}
        raise client.exceptions.ClientError(error, "PutObject")

    client.put_object = conflict


async def test_a_put_that_met_another_request_is_tried_again(bucket):
    """The other one may be a delete, or fail: "On a 409 failure you should retry the upload"."""
    blobs = S3Blobs(bucket, url_seconds=60)
    conflicting(blobs, 2)
    await blobs.put("a/1", b"x")
    assert await blobs.get("a/1") == b"x"


async def test_a_put_that_never_gets_through_is_not_said_to_be_done(bucket, monkeypatch):
    monkeypatch.setattr("app.store.s3._PUTS", 2)
    blobs = S3Blobs(bucket, url_seconds=60)
    conflicting(blobs, 9)
    with pytest.raises(StoreUnavailable, match="other requests keep writing"):
        await blobs.put("a/1", b"x")


async def test_more_keys_than_a_page_are_listed_and_deleted(bucket, monkeypatch):
    monkeypatch.setattr("app.store.s3._PAGE", 7)
    blobs = S3Blobs(bucket, url_seconds=60)
    for n in range(20):
        await blobs.put(f"a/{n:02d}", b"x")
    assert list(await blobs.sizes("a/")) == [f"a/{n:02d}" for n in range(20)]
    await blobs.delete("a/")
    assert await blobs.sizes("") == {}


@pytest.mark.parametrize("work", ["get", "put", "sizes", "delete"])
async def test_a_bucket_that_is_not_there_is_unavailable(bucket, work):
    blobs = S3Blobs(f"{bucket}-not", url_seconds=60)
    arguments = ("a", b"x") if work == "put" else ("a",)
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        await getattr(blobs, work)(*arguments)


async def test_a_bucket_without_an_answer_is_unavailable(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match="Could not connect"):
        await S3Blobs(bucket, url_seconds=60).get("a")


REGIONS = {
    "us-east-1": "s3.amazonaws.com",
    "eu-central-1": "s3.eu-central-1.amazonaws.com",
    "me-south-1": "s3.me-south-1.amazonaws.com",
    "cn-north-1": "s3.cn-north-1.amazonaws.com.cn",
}


@pytest.fixture
def region(request, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", request.param)
    return request.param


async def signed_hosts(blobs):
    put = await blobs.sign_put("a/1", "0a" * 32, 5)
    get = await blobs.sign_get("a/1")
    return [(httpx.URL(r.url).host, httpx.URL(r.url).path) for r in (put, get)]


@pytest.mark.parametrize("region", REGIONS, indirect=True)
async def test_urls_name_the_host_of_the_buckets_region(region):
    host = f"weights-abc.{REGIONS[region]}"
    found = await signed_hosts(S3Blobs("weights-abc", url_seconds=60))
    assert found == [(host, "/a/1")] * 2


@pytest.mark.parametrize("region", ["eu-central-1"], indirect=True)
async def test_a_bucket_with_a_dot_has_no_host_of_its_own(region):
    """The certificate is for one label before the region's host."""
    found = await signed_hosts(S3Blobs("weights.example", url_seconds=60))
    assert found == [(REGIONS[region], "/weights.example/a/1")] * 2


async def test_clients_may_reach_the_store_by_another_name_than_the_coordinator(bucket):
    blobs = S3Blobs(bucket, url_seconds=60, public_endpoint="https://s3.example.org:9000")
    assert await signed_hosts(blobs) == [("s3.example.org", f"/{bucket}/a/1")] * 2
    assert ":9000/" in (await blobs.sign_get("a/1")).url
    await blobs.put("a/1", b"x")  # and itself by its own
    assert await blobs.get("a/1") == b"x"


@pytest.mark.parametrize(
    "value", ["s3.example.org", "ftp://a", "https://a/path", "https://", "https://a?b"]
)
def test_a_public_endpoint_is_an_origin(value):
    with pytest.raises(ValidationError, match="origin such as"):
        Settings(s3_public_endpoint=value)
    assert Settings(s3_public_endpoint="https://a:1/").s3_public_endpoint == "https://a:1"


def answering(blobs, operation, code, status):
    """S3 answers this operation with an error."""
    error = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def fail(**_):
        raise blobs._client.exceptions.ClientError(error, operation)

    setattr(blobs._client, operation, fail)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, StoreDenied),
        ("InvalidAccessKeyId", 403, StoreDenied),
        ("SignatureDoesNotMatch", 403, StoreDenied),
        ("RequestTimeTooSkewed", 403, StoreDenied),
        ("ExpiredToken", 400, StoreDenied),
        ("AuthorizationHeaderMalformed", 400, StoreDenied),
        ("PermanentRedirect", 301, StoreDenied),
        ("NoSuchBucket", 404, StoreMissing),
        ("EntityTooLarge", 400, StoreRefused),
        ("KeyTooLongError", 400, StoreRefused),
        ("SlowDown", 503, StoreUnavailable),
        ("InternalError", 500, StoreUnavailable),
        ("RequestTimeout", 400, StoreUnavailable),
        ("SomethingNew", 429, StoreUnavailable),
        ("SomethingNew", 502, StoreUnavailable),
    ],
)
async def test_a_fault_that_lasts_is_not_told_as_one_that_passes(bucket, code, status, kind):
    blobs = S3Blobs(bucket, url_seconds=60)
    await blobs.put("a", b"x")
    for operation, call in (
        ("delete_objects", blobs.delete("a")),
        ("get_object", blobs.get("a")),
        ("put_object", blobs.put("b", b"x")),
        ("list_objects_v2", blobs.sizes("a")),
    ):
        answering(blobs, operation, code, status)
        with pytest.raises(StoreUnavailable, match=code) as caught:
            await call
        assert type(caught.value) is kind
        assert caught.value.store == "The store of weights"


async def test_without_credentials_the_store_is_denied_and_not_away(bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    with pytest.raises(StoreDenied, match="credentials"):
        await S3Blobs(bucket, url_seconds=60).get("a")


@pytest.mark.parametrize("endpoint", ["no-url", "http://[::1"])
async def test_an_endpoint_that_is_none_is_said(bucket, monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StoreDenied, match=bucket):
        await S3Blobs(bucket, url_seconds=60).get("a")


async def test_objects_that_stay_though_they_were_deleted_are_told(bucket):
    """S3 answers 200 to a deletion of many, with what it did not delete inside."""
    blobs = S3Blobs(bucket, url_seconds=60)
    await blobs.put("a/1", b"x")
    fault = {"Key": "a/1", "Code": "AccessDenied", "Message": "object lock"}
    blobs._client.delete_objects = lambda **_: {"Errors": [fault]}
    with pytest.raises(StoreDenied, match="did not delete 1 objects"):
        await blobs.delete("a/")
    fault["Code"] = "InternalError"
    with pytest.raises(StoreUnavailable) as caught:
        await blobs.delete("a/")
    assert type(caught.value) is StoreUnavailable


async def test_of_a_huge_object_only_the_beginning_is_read(bucket, monkeypatch):
    """On a store that does not insist on a length, whoever has a URL decides how long it is."""
    monkeypatch.setattr(s3, "LARGEST", 1000)
    blobs = S3Blobs(bucket, url_seconds=60)
    await blobs.put("a/1", bytes(5000))
    assert await blobs.get("a/1") == bytes(1000)
    assert await blobs.sizes("a/") == {"a/1": 5000}


class Hanging:
    """A TCP server in front of S3 that falls silent: nothing is refused or reset."""

    def __init__(self, target):
        self.target, self.silent = httpx.URL(target), False
        self.open, self.tasks = [], []

    async def serve(self, reader, writer):
        self.tasks.append(asyncio.current_task())
        there, back = await asyncio.open_connection(self.target.host, self.target.port)
        self.open += [writer, back]

        async def pump(source, sink):
            with suppress(OSError):
                while data := await source.read(65536):
                    if not self.silent:
                        sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))


@pytest.fixture
async def hanging(aws_endpoint, bucket, monkeypatch):
    proxy = Hanging(aws_endpoint)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    yield proxy
    server.close()
    for writer in proxy.open:
        writer.transport.abort()
    if proxy.tasks:
        await asyncio.wait(proxy.tasks)


async def test_a_store_that_falls_silent_holds_nobody_up(hanging, bucket, monkeypatch):
    monkeypatch.setattr(s3, "READ_SECONDS", 0.2)
    monkeypatch.setattr(s3, "OPERATION_SECONDS", 4.0)
    blobs = S3Blobs(bucket, url_seconds=60)
    await blobs.put("a", b"x")
    hanging.silent = True
    calls = (blobs.get("a"), blobs.put("b", b"x"), blobs.sizes(""), blobs.delete("a"))
    for said in await asyncio.gather(*calls, return_exceptions=True):
        assert type(said) is StoreUnavailable


async def test_who_waits_for_a_thread_is_told_as_well(hanging, bucket, monkeypatch):
    monkeypatch.setattr(s3, "READ_SECONDS", 3.0)
    monkeypatch.setattr(s3, "OPERATION_SECONDS", 1.0)
    monkeypatch.setattr(s3, "THREADS", 2)
    blobs = S3Blobs(bucket, url_seconds=60)
    hanging.silent = True
    asked = asyncio.gather(*(blobs.get(str(n)) for n in range(20)), return_exceptions=True)
    for said in await asyncio.wait_for(asked, 20):  # one after the other: 90 s
        assert "did not answer in 1 s" in said.message


@pytest.mark.parametrize("region", ["eu-central-1"], indirect=True)
async def test_connections_that_died_while_the_container_was_frozen_are_not_used(
    region, monkeypatch
):
    """moto ends every connection, so this is a server of its own, which keeps them."""
    opened, dead = [], []

    async def serve(reader, writer):
        opened.append(writer)
        while await reader.readuntil(b"\r\n\r\n"):
            if writer not in dead:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(s3, "READ_SECONDS", 60)  # a dead connection would be waited for so long
    now = [(0.0, 0.0)]
    monkeypatch.setattr(s3, "_now", lambda: now[0])
    blobs = S3Blobs("weights", url_seconds=60)
    for now[0] in ((0.0, 0.0), (10.0, 10.0)):  # a short pause costs no new connection
        assert await blobs.get("a") == b"x"
    assert len(opened) == 1
    for now[0] in ((100.0, 10.0), (100.0, 200.0)):  # one of the clocks may stand still meanwhile
        dead += opened
        assert await asyncio.wait_for(blobs.get("a"), 20) == b"x"
    assert len(opened) == 3
    server.close()
    for writer in opened:
        writer.transport.abort()


async def test_what_a_store_does_not_enforce_is_found_and_told(bucket, tmp_path, caplog):
    """moto takes everything but a replacement."""
    documents, _ = await open_sqlite(tmp_path / "f")
    blobs = S3Blobs(bucket, url_seconds=60)
    assert await unenforced(blobs) == ["other bytes", "more bytes", "no headers"]
    assert await blobs.sizes("") == {}
    await tell_unenforced(documents, blobs, bucket)
    assert "signatures are not enforced taken=other bytes, more bytes" in caplog.text
    await documents.close()


async def test_a_store_that_enforces_all_is_asked_once(bucket, tmp_path, caplog, monkeypatch):
    documents, _ = await open_sqlite(tmp_path / "f")
    blobs, asked, stored = S3Blobs(bucket, url_seconds=60), [], set()

    async def strict(signed, data, headers):
        asked.append(signed.url)
        fine = data == b"right" and headers == signed.headers and signed.url not in stored
        stored.update([signed.url] if fine else [])
        return fine

    monkeypatch.setattr(s3_check, "_put", strict)
    for _ in range(3):
        await tell_unenforced(documents, blobs, bucket)
    assert len(set(asked)) == 1 and len(asked) == 5
    await tell_unenforced(documents, blobs, "another")
    assert len(asked) == 10
    assert "signatures" not in caplog.text
    await documents.close()


async def test_a_store_that_takes_anything_is_told_each_time_and_asked_once_a_day(
    bucket, tmp_path, caplog, monkeypatch
):
    documents, _ = await open_sqlite(tmp_path / "f")
    blobs, asked, now = S3Blobs(bucket, url_seconds=60), [], 1e9

    async def careless(signed, data, headers):
        asked.append(signed.url)
        return True

    monkeypatch.setattr(s3_check, "_put", careless)
    monkeypatch.setattr(s3_check.time, "time", lambda: now)
    for _ in range(3):
        await tell_unenforced(documents, blobs, bucket)
    assert len(set(asked)) == 1
    assert caplog.text.count("signatures are not enforced taken=other bytes") == 3
    now += s3_check.AGAIN_SECONDS + 1
    await tell_unenforced(documents, blobs, bucket)
    assert len(set(asked)) == 2
    await documents.close()


async def test_a_store_that_is_away_at_the_start_is_no_reason_not_to_start(
    bucket, tmp_path, caplog
):
    documents, _ = await open_sqlite(tmp_path / "f")
    missing = S3Blobs(f"{bucket}-not", url_seconds=60)
    await tell_unenforced(documents, missing, bucket)
    elsewhere = S3Blobs(bucket, url_seconds=60, public_endpoint="http://127.0.0.1:9")
    await tell_unenforced(documents, elsewhere, bucket)
    assert caplog.text.count("signatures were not checked") == 2
    await documents.close()


async def test_a_url_lives_as_long_as_was_asked_and_no_longer_than_is_allowed(bucket):
    blobs = S3Blobs(bucket, url_seconds=300)
    for asked, life in ((60, 60), (1000, 300), (None, 300)):
        put = await blobs.sign_put("a", "0a" * 32, 5, seconds=asked)
        assert put.seconds == life
        assert httpx.URL(put.url).params["X-Amz-Expires"] == str(life)
