"""Another blob store is never taken for the one that holds the weights."""

import asyncio

import httpx
import pytest

from app.config import Settings
from app.main import create_app
from app.store.identity import MARKER, identified
from app.store.port import DirectBlobs
from app.store.s3 import S3Blobs
from app.store.sqlite import open_sqlite
from serverless_fl.domain.errors import StoreMissing, StoreUnavailable, WrongStore
from tests.support.dying import Died, DyingStore, Fuse
from tests.support.federation import ADMIN_KEY, BOTH_STORES
from tests.support.some import some


@pytest.fixture
async def elsewhere(tmp_path):
    """A second blob store, of another kind perhaps."""
    documents, blobs = await open_sqlite(tmp_path / "elsewhere.sqlite3")
    yield blobs
    await documents.close()


async def in_use(store, blobs=None):
    """A store with an experiment and one blob."""
    kept = identified(store.documents, blobs or store.blobs)
    await kept.put("models/a", b"weights")
    await store.documents.insert("experiments", "a", {})
    return kept


async def each(blobs):
    """What every call of the port says."""
    calls = (blobs.get("models/a"), blobs.put("b", b"x"), blobs.sizes(""), blobs.delete("c"))
    return await asyncio.gather(*calls, return_exceptions=True)


@BOTH_STORES
async def test_the_same_store_goes_on(store):
    await in_use(store)
    other = await store.reopen()
    again = identified(other.documents, other.blobs)
    assert await again.get("models/a") == b"weights"
    assert await again.get("nothing") is None


@BOTH_STORES
async def test_another_store_is_refused_until_the_right_one_is_back(store, elsewhere):
    await in_use(store)
    wrong = identified(store.documents, elsewhere)
    assert all(isinstance(said, WrongStore) for said in some(await each(wrong)))
    assert await elsewhere.sizes("") == {}  # nothing was written or deleted there
    right = identified(store.documents, store.blobs)
    assert await right.get("models/a") == b"weights"


@BOTH_STORES
async def test_another_store_that_serves_another_database_is_refused(store, elsewhere):
    await in_use(store)
    await elsewhere.put(MARKER, b"another name")
    with pytest.raises(WrongStore, match="FL_S3_BUCKET"):
        await identified(store.documents, elsewhere).get("models/a")


@BOTH_STORES
async def test_a_store_that_is_emptied_while_it_is_used_has_lost_nothing_yet(store):
    kept = await in_use(store)
    await store.blobs.delete("")
    with pytest.raises(WrongStore):
        await kept.get("models/a")
    with pytest.raises(WrongStore):
        await kept.put("b", b"x")


@BOTH_STORES
async def test_two_databases_may_share_a_store(store, elsewhere, tmp_path):
    other, _ = await open_sqlite(tmp_path / "other.sqlite3")
    for documents in (store.documents, other):
        blobs = identified(documents, elsewhere)
        await blobs.put("models/a", b"weights")
        await documents.insert("experiments", "a", {})
    for documents in (store.documents, other):
        assert await identified(documents, elsewhere).get("models/a") == b"weights"
    await other.close()


@BOTH_STORES
async def test_before_there_are_experiments_the_store_may_be_changed(store, elsewhere):
    await identified(store.documents, store.blobs).put("a", b"x")
    await identified(store.documents, elsewhere).put("b", b"y")
    await store.documents.insert("experiments", "a", {})
    assert await identified(store.documents, elsewhere).get("b") == b"y"
    with pytest.raises(WrongStore):
        await identified(store.documents, store.blobs).get("a")


@BOTH_STORES
async def test_a_copy_of_the_store_is_as_good(store, elsewhere):
    await in_use(store)
    for key in await store.blobs.sizes(""):
        await elsewhere.put(key, await store.blobs.get(key))
    assert await identified(store.documents, elsewhere).get("models/a") == b"weights"


@BOTH_STORES
@pytest.mark.parametrize("writes", range(4))
async def test_whoever_dies_while_the_store_is_named_leaves_it_to_others(store, elsewhere, writes):
    fuse = Fuse(writes + 1, after=False)
    dying = identified(DyingStore(store.documents, fuse), DyingStore(store.blobs, fuse))
    with pytest.raises(Died):
        await dying.put("models/a", b"weights")
    await in_use(store)
    assert await identified(store.documents, store.blobs).get("models/a") == b"weights"
    with pytest.raises(WrongStore):
        await identified(store.documents, elsewhere).get("models/a")


@BOTH_STORES
async def test_many_processes_agree_on_one_name(store):
    opened = [store, *[await store.reopen() for _ in range(3)]]
    kept = [identified(one.documents, one.blobs) for one in opened for _ in range(4)]
    await asyncio.gather(*(blobs.put(f"k{n}", b"x") for n, blobs in enumerate(kept)))
    assert len(await store.blobs.sizes("k")) == len(kept)
    name = (await store.documents.get("stores", "blobs")).body
    assert name == {"identity": (await store.blobs.get(MARKER)).decode(), "marked": True}


async def test_a_bucket_that_is_deleted_is_missing_and_not_empty(tmp_path, bucket):
    import boto3

    documents, _ = await open_sqlite(tmp_path / "f")
    kept = identified(documents, S3Blobs(bucket, url_seconds=60))
    assert isinstance(kept, DirectBlobs)
    await kept.put("models/a", b"weights")
    await documents.insert("experiments", "a", {})
    client = boto3.client("s3")
    for key in ("models/a", MARKER):
        client.delete_object(Bucket=bucket, Key=key)
    client.delete_bucket(Bucket=bucket)
    with pytest.raises(StoreMissing):
        await kept.get("models/a")
    client.create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    again = identified(documents, S3Blobs(bucket, url_seconds=60))
    for call in (again.sign_get("models/a"), again.sign_put("b", "0a" * 32, 1)):
        with pytest.raises(WrongStore):
            await call
    await documents.close()


async def test_a_coordinator_with_another_store_is_not_ready_and_says_why(tmp_path, bucket):
    async def ready(**settings):
        app = create_app(
            Settings(admin_key=ADMIN_KEY, data_dir=tmp_path, tick_seconds=0, **settings)
        )
        async with app.router.lifespan_context(app):
            await app.state.coordinator.context.repo.documents.insert("experiments", "a", {})
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://c") as http:
                return await http.get("/ready")

    assert (await ready(s3_bucket=bucket)).status_code == 200
    wrong = await ready()
    assert (wrong.status_code, wrong.json()["code"]) == (503, WrongStore.code)
    assert "not the one that holds these experiments" in wrong.json()["detail"]
    missing = await ready(s3_bucket=f"{bucket}-not")
    assert (missing.status_code, missing.json()["code"]) == (503, StoreMissing.code)
    assert int(missing.headers["retry-after"]) > 2
    assert bucket not in missing.text
    assert (await ready(s3_bucket=bucket)).status_code == 200


def test_every_lasting_fault_is_a_fault_of_the_store():
    kinds = [StoreUnavailable, *StoreUnavailable.__subclasses__()]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert {kind.code for kind in kinds if not kind.lasting} == {
        "store-unavailable",
        "helper-unavailable",
    }
    assert all(("try again" in kind("x").advice) != kind.lasting for kind in kinds)
