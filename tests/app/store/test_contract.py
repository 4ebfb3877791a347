"""The adapters' specification: whatever the service relies on, on every adapter."""

import asyncio
import json

import pytest

from app.store.s3 import S3Blobs
from serverless_fl.domain.errors import StoreRefused, StoreUnavailable
from tests.support.federation import BOTH_STORES

pytestmark = BOTH_STORES

KIND = "clients"
VALUES = {
    "float": 0.1 + 0.2,
    "tiny": 5e-324,
    "big": 2**63 - 1,
    "negative": -(2**63),
    "none": None,
    "yes": True,
    "whole": 1.0,
    "negative zero": -0.0,
    "text": "Zürich \u0000 \U0001f600",
    "empty": {"list": [], "dict": {}, "text": ""},
    "a.b": {"$set": [1, {"c.d": 2}]},
}


async def test_insert_if_absent(store):
    assert await store.documents.insert(KIND, "a", {"n": 1})
    assert not await store.documents.insert(KIND, "a", {"n": 2})
    found = await store.documents.get(KIND, "a")
    assert (found.key, found.revision, found.body) == ("a", 1, {"n": 1})


async def test_documents_are_deleted_by_their_prefix_and_no_others(store):
    for key in ("e/1", "e/2", "e0", "f/1", "e"):
        await store.documents.insert(KIND, key, {}, unique=f"u-{key}")
    await store.documents.insert("rounds", "e/1", {})
    assert await store.documents.get(KIND, "e/1") is not None  # it is known now
    await store.documents.delete(KIND, "e/")
    await store.documents.delete(KIND, "e/")
    other = await store.reopen()
    for documents in (store.documents, other.documents):
        assert await documents.keys(KIND, "") == ["e", "e0", "f/1"]
        assert await documents.get(KIND, "e/1") is None
        assert await documents.find(KIND, "u-e/1") is None
        assert await documents.get("rounds", "e/1") is not None
    # Both names are free again.
    assert await store.documents.insert(KIND, "e/1", {"n": 2}, unique="u-e/1")
    assert (await store.documents.get(KIND, "e/1")).revision == 1


async def test_a_check_writes_nothing_that_others_see(store):
    await store.documents.insert(KIND, "a", {"n": 1})
    for _ in range(3):
        await store.documents.check()
        await (await store.reopen()).documents.check()
    assert [d.key for d in await store.documents.scan(KIND, "")] == ["a"]
    assert await store.blobs.sizes("") == {}


async def test_kinds_do_not_share_keys_or_second_names(store):
    assert await store.documents.insert("clients", "a", {}, unique="u")
    assert await store.documents.insert("experiments", "a", {}, unique="u")


async def test_a_second_name_is_taken_once_and_finds_the_document(store):
    assert await store.documents.insert(KIND, "a", {"n": 1}, unique="u")
    assert not await store.documents.insert(KIND, "b", {"n": 2}, unique="u")
    assert await store.documents.get(KIND, "b") is None
    assert (await store.documents.find(KIND, "u")).key == "a"
    assert await store.documents.find(KIND, "v") is None


async def test_documents_without_a_second_name_do_not_clash(store):
    assert await store.documents.insert(KIND, "a", {})
    assert await store.documents.insert(KIND, "b", {})


async def test_the_second_name_stays_after_a_replacement(store):
    await store.documents.insert(KIND, "a", {"n": 1}, unique="u")
    await store.documents.replace(KIND, "a", 1, {"n": 2})
    assert (await store.documents.find(KIND, "u")).body == {"n": 2}
    assert not await store.documents.insert(KIND, "b", {}, unique="u")


async def test_values_come_back_exactly(store):
    await store.documents.insert(KIND, "a", VALUES)
    found = await store.documents.get(KIND, "a")
    assert json.dumps(found.body) == json.dumps(VALUES)  # to Python, True == 1 == 1.0
    await store.documents.replace(KIND, "a", 1, {"changed": VALUES})
    found = await store.documents.get(KIND, "a")
    assert json.dumps(found.body) == json.dumps({"changed": VALUES})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_what_json_has_no_word_for_is_refused(store, value):
    with pytest.raises(ValueError, match="JSON"):
        await store.documents.insert(KIND, "a", {"n": value})
    assert await store.documents.get(KIND, "a") is None


async def test_a_key_that_is_no_text_is_refused_and_not_told(store):
    calls = (
        store.documents.insert(KIND, "a/\ud800", {}),
        store.documents.insert(KIND, "a", {}, unique="\ud800"),
        store.documents.get(KIND, "a/\ud800"),
        store.documents.find(KIND, "\ud800"),
        store.documents.replace(KIND, "a/\ud800", 1, {}),
        store.documents.keys(KIND, "a/\ud800"),
        store.documents.count(KIND, "a/\ud800"),
        store.documents.last_key(KIND, "a/\ud800"),
        store.documents.scan(KIND, "a/\ud800"),
    )
    for call in calls:
        with pytest.raises(StoreRefused):
            await call


async def test_replace_compares_the_revision(store):
    await store.documents.insert(KIND, "a", {"n": 1})
    assert await store.documents.replace(KIND, "a", 1, {"n": 2})
    assert not await store.documents.replace(KIND, "a", 1, {"n": 3})
    assert not await store.documents.replace(KIND, "a", 3, {"n": 3})
    assert not await store.documents.replace(KIND, "nobody", 1, {})
    found = await store.documents.get(KIND, "a")
    assert (found.revision, found.body) == (2, {"n": 2})


async def test_of_many_inserts_at_once_one_wins(store):
    other = await store.reopen()
    results = await asyncio.gather(
        *((store, other)[n % 2].documents.insert(KIND, "a", {"n": n}) for n in range(50))
    )
    assert sum(results) == 1
    assert (await other.documents.get(KIND, "a")).body == {"n": results.index(True)}


async def test_of_many_second_names_at_once_one_wins(store):
    other = await store.reopen()
    results = await asyncio.gather(
        *((store, other)[n % 2].documents.insert(KIND, f"k{n}", {}, unique="u") for n in range(50))
    )
    assert sum(results) == 1
    assert await store.documents.keys(KIND, "") == [f"k{results.index(True)}"]


async def test_no_increment_is_lost_among_many(store):
    other = await store.reopen()
    await store.documents.insert(KIND, "a", {"n": 0})

    async def increment(documents):
        while True:
            found = await documents.get(KIND, "a")
            if await documents.replace(KIND, "a", found.revision, {"n": found.body["n"] + 1}):
                return

    await asyncio.gather(*(increment((store, other)[n % 2].documents) for n in range(50)))
    found = await store.documents.get(KIND, "a")
    assert (found.revision, found.body) == (51, {"n": 50})


KEYS = [
    "a",
    "a/1",
    "a/10",
    "a/2",
    "a/é",
    "a/\U0001f600",
    "a0",
    "ab/1",
    "a%/1",
    "a_/1",
    "a.*/1",
    "A/1",
]


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/1", "a%", "a_/", "a.*", "zz", "a/\U0001f600"])
async def test_a_prefix_means_itself_and_keys_sort_by_their_bytes(store, prefix):
    for key in KEYS:
        await store.documents.insert(KIND, key, {"of": key})
    expected = sorted((k for k in KEYS if k.startswith(prefix)), key=str.encode)
    assert await store.documents.keys(KIND, prefix) == expected
    assert await store.documents.last_key(KIND, prefix) == (expected[-1] if expected else None)
    assert await store.documents.count(KIND, prefix) == len(expected)
    assert [d.body["of"] for d in await store.documents.scan(KIND, prefix)] == expected


EDGES = ["\x00", "\x7f", "\x80", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]


@pytest.mark.parametrize("prefix", ["", "a/", *(f"a/{edge}" for edge in EDGES)], ids=ascii)
async def test_no_character_is_beyond_a_prefix(store, prefix):
    keys = [
        "a",
        "a/",
        "a0",
        "\U0010ffffz",
        *(f"a/{e}{end}" for e in EDGES for end in ("", "x", "\U0010ffff")),
    ]
    for key in keys:
        await store.documents.insert(KIND, key, {})
        await store.blobs.put(key, key.encode())
    expected = sorted((k for k in keys if k.startswith(prefix)), key=str.encode)
    assert await store.documents.keys(KIND, prefix) == expected
    assert await store.documents.last_key(KIND, prefix) == expected[-1]
    assert await store.documents.count(KIND, prefix) == len(expected)
    assert [d.key for d in await store.documents.scan(KIND, prefix)] == expected
    assert set(await store.blobs.sizes(prefix)) == set(expected)
    await store.blobs.delete(prefix)
    assert set(await store.blobs.sizes("")) == set(keys) - set(expected)


async def test_scan_goes_page_by_page(store):
    for n in range(7):
        await store.documents.insert(KIND, f"a/{n}", {"n": n})
    await store.documents.insert(KIND, "b/0", {})
    first = await store.documents.scan(KIND, "a/", limit=3)
    second = await store.documents.scan(KIND, "a/", after=first[-1].key, limit=3)
    third = await store.documents.scan(KIND, "a/", after=second[-1].key, limit=3)
    assert [[d.body["n"] for d in page] for page in (first, second, third)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6],
    ]
    assert await store.documents.scan(KIND, "a/", after="a/6") == []
    assert len(await store.documents.scan(KIND, "a/", after="A")) == 7


@pytest.fixture(params=["database", "s3"])
def blobs(request, store, bucket):
    """Every blob store: those in the databases, and the one beside them."""
    return S3Blobs(bucket, url_seconds=60) if request.param == "s3" else store.blobs


async def test_blobs_are_kept_and_never_overwritten(blobs):
    big = bytes(range(256)) * 32768  # 8 MiB, the largest part
    await blobs.put("x/1", big)
    await blobs.put("x/2", b"")
    await blobs.put("x/1", b"other")
    assert await blobs.get("x/1") == big
    assert await blobs.get("x/2") == b""
    assert await blobs.get("x/3") is None
    assert await blobs.sizes("x/") == {"x/1": len(big), "x/2": 0}


async def test_a_blobs_key_that_is_no_text_is_refused(blobs):
    for call in (
        blobs.put("a/\ud800", b"x"),
        blobs.get("a/\ud800"),
        blobs.sizes("a/\ud800"),
        blobs.delete("a/\ud800"),
    ):
        with pytest.raises(StoreRefused):
            await call


async def test_blobs_are_deleted_by_prefix_alone(blobs):
    for key in ("x/1", "x/1/a", "x/10", "x/2", "y"):
        await blobs.put(key, b"data")
    await blobs.delete("x/1")
    assert set(await blobs.sizes("")) == {"x/2", "y"}
    await blobs.delete("nothing")


async def test_what_one_process_wrote_another_sees_at_once(store):
    other = await store.reopen()
    await store.documents.insert(KIND, "a", {"n": 1}, unique="u")
    assert (await other.documents.find(KIND, "u")).body == {"n": 1}
    await other.documents.replace(KIND, "a", 1, {"n": 2})
    assert (await store.documents.get(KIND, "a")).revision == 2
    await store.blobs.put("x", b"1")
    assert await other.blobs.get("x") == b"1"
    await other.blobs.delete("x")
    assert await store.blobs.get("x") is None


async def test_two_stores_have_nothing_in_common(fresh_store):
    one, two = await fresh_store(), await fresh_store()
    await one.documents.insert(KIND, "a", {}, unique="u")
    await one.blobs.put("x", b"1")
    assert await two.documents.keys(KIND, "") == []
    assert await two.documents.insert(KIND, "b", {}, unique="u")
    assert await two.blobs.sizes("") == {}
    await two.blobs.delete("")
    assert await one.blobs.get("x") == b"1"


async def test_reopening_sees_everything(store):
    await store.documents.insert(KIND, "a", VALUES, unique="u")
    await store.documents.replace(KIND, "a", 1, {"n": 2})
    await store.blobs.put("x", b"1")
    await store.documents.close()
    again = await store.reopen()
    found = await again.documents.find(KIND, "u")
    assert (found.key, found.revision, found.body) == ("a", 2, {"n": 2})
    assert await again.blobs.get("x") == b"1"


async def test_a_closed_store_is_unavailable_and_may_be_closed_again(store):
    await store.documents.close()
    with pytest.raises(StoreUnavailable, match="close"):
        await store.documents.get(KIND, "a")
    with pytest.raises(StoreUnavailable, match="close"):
        await store.blobs.put("x", b"")
    await store.documents.close()
