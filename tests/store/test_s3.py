"""What S3 does beyond the contract of blobs: signed requests, and its faults as ours."""

import hashlib

import httpx
import pytest

from app.domain.errors import StoreUnavailable
from app.store.port import DirectBlobs
from app.store.s3 import S3Blobs


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
    with pytest.raises(StoreUnavailable, match="is being written"):
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
