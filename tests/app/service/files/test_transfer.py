"""Weights on their way in and out: announced parts, broken uploads, signed URLs, left-overs."""

import hashlib

import httpx
import numpy as np
import pytest

from app.service.coordinator import Limits
from app.store.s3 import S3Blobs
from client_sdk import errors
from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from client_sdk.api.parts import PARALLEL_PARTS
from serverless_fl.domain.errors import PartsMissing, StoreUnavailable
from serverless_fl.domain.records import WeightsCommit
from serverless_fl.wire import parts
from tests.support.federation import ADMIN_KEY, BOTH_STORES, Federation, config, value_of, weights

PART = 100


class Wire(httpx.AsyncBaseTransport):
    """The coordinator over ASGI, everything else over the network; counts and may break calls."""

    def __init__(self, app):
        self.asgi = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.network = httpx.AsyncHTTPTransport()
        self.seen: list[httpx.Request] = []
        self.break_put = 0  # the n-th PUT from now does not arrive

    async def handle_async_request(self, request):
        self.seen.append(request)
        if request.method == "PUT" and self.break_put:
            self.break_put -= 1
            if self.break_put == 0:
                raise httpx.ConnectError("cut off")
        own = request.url.host == "coordinator"
        return await (self.asgi if own else self.network).handle_async_request(request)

    def puts(self) -> int:
        return sum(request.method == "PUT" for request in self.seen)


def client(wire) -> CoordinatorClient:
    retry = Retry(give_up_after=0)
    return CoordinatorClient("http://coordinator", ADMIN_KEY, retry=retry, transport=wire)


def big() -> bytes:
    import numpy as np

    return weights(1, big=np.arange(300, dtype=np.float32))


@pytest.fixture
async def small_parts(store):
    federation = Federation(store.documents, store.blobs)
    federation.limits = Limits(part_bytes=PART)
    async with federation.serving():
        yield federation


async def test_an_upload_that_broke_off_goes_on_where_it_stopped(small_parts):
    wire = Wire(small_parts.app)
    data = big()
    total = -(-len(data) // PART)
    async with client(wire) as api:
        made = await api.create_experiment("x", config(), "broken-upload")
        wire.break_put = 8
        with pytest.raises(errors.CoordinatorUnreachable, match="cut off"):
            await api.upload_initial_model(made.id, data, made.part_bytes)
        first = len(await small_parts.blobs.sizes(f"models/{made.id}/"))
        assert 0 < first < total
        before = wire.puts()
        await api.upload_initial_model(made.id, data, made.part_bytes)
        # Those that were under way when it broke may have arrived or not.
        assert total - first - PARALLEL_PARTS - 1 <= wire.puts() - before <= total - first
        assert await api.download_model(made.id, 0, PART) == data


async def test_a_clients_update_goes_on_too(small_parts):
    wire = Wire(small_parts.app)
    experiment, members = await small_parts.start(initial=big())
    cohort = await small_parts.cohort(experiment)
    data = big()
    async with client(wire) as admin:
        api = admin.using(members[cohort[0]].api.connection.key)
        wire.break_put = 3
        upload = (experiment, 1, data, 5, {}, PART)
        with pytest.raises(errors.CoordinatorUnreachable):
            await api.upload_update(*upload)
        receipt = await api.upload_update(*upload)
        assert receipt.sha256 == hashlib.sha256(data).hexdigest()
        assert wire.puts() <= -(-len(data) // PART) + PARALLEL_PARTS + 1


async def test_what_is_announced_is_bounded(small_parts):
    made = await small_parts.admin.create_experiment("x", config(), "bounded-plan")
    path = f"/experiments/{made.id}/initial-model/parts"

    def announced(*sizes):
        return parts.PartAnnouncements(
            parts=[
                parts.PartAnnouncement(number=n, sha256=f"{n:064x}", size=size)
                for n, size in enumerate(sizes)
            ]
        )

    with pytest.raises(errors.RequestRefused) as large:
        await small_parts.admin.connection.post(path, announced(PART, PART + 1))
    assert (large.value.status, large.value.code) == (413, "too-large")
    assert "Part 1 takes" in large.value.detail  # not the first, which is as large as one may be
    experiment, members = await small_parts.start(initial=weights(0))
    cohort = await small_parts.cohort(experiment)
    path = f"/experiments/{experiment}/rounds/1/update/parts"
    many = parts.PartAnnouncements(
        parts=[parts.PartAnnouncement(number=n, sha256=f"{n:064x}", size=PART) for n in range(256)]
    )
    # Six numbers take a hundred bytes; an upload may have 64 KiB of header beside, and twice.
    await members[cohort[0]].api.connection.post(path, many)
    small_parts.app.state.coordinator = small_parts.coordinator(limits=Limits(part_bytes=8192))
    many = parts.PartAnnouncements(
        parts=[part.model_copy(update={"size": 8192}) for part in many.parts]
    )
    with pytest.raises(errors.StateConflict, match="Too many different parts"):
        await members[cohort[0]].api.connection.post(path, many)
    outsider = next(member for name, member in members.items() if name not in cohort)
    with pytest.raises(errors.StateConflict, match="not in the cohort"):
        await outsider.api.connection.post(path, announced(1))


async def test_an_update_may_be_as_large_as_the_model(federation):
    """A header's slack, 64 KiB, is not all that there is."""
    large = {"big": np.zeros(50_000, np.float32)}
    experiment, members = await federation.start(initial=weights(0, **large), rounds=1)
    for name in await federation.cohort(experiment):
        await members[name].api.upload_update(experiment, 1, weights(1, **large), 5, {}, 1 << 16)
    assert (await federation.admin.experiment(experiment)).state == "completed"


async def test_a_false_announcement_takes_no_part_away(small_parts):
    """Else any client could fail the experiment: its round would lose an accepted update."""
    experiment, members = await small_parts.start(initial=big(), rounds=1)
    one, two = await small_parts.cohort(experiment)
    data = big()
    await members[one].api.upload_update(experiment, 1, data, 10, {}, PART)
    own, other = hashlib.sha256(data[:PART]).hexdigest(), "0" * 64

    async def announce(*announced):
        listed = [parts.PartAnnouncement(number=0, sha256=s, size=n) for s, n in announced]
        path = f"/experiments/{experiment}/rounds/1/update/parts"
        return await members[one].api.connection.post(path, parts.PartAnnouncements(parts=listed))

    for lie in ([(own, PART - 1)], [(own, PART), (own, 1)]):
        with pytest.raises(
            errors.RequestRefused, match=f"Part 0 is already stored with {PART} bytes"
        ):
            await announce(*lie)
    await announce((other, 1), (own, PART))  # two contents for one part
    await members[two].api.upload_update(experiment, 1, data, 10, {}, PART)
    shown = await small_parts.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 1)


async def test_parts_beside_the_committed_file_are_dropped(small_parts):
    made = await small_parts.admin.create_experiment("x", config(), "stray-parts")
    stray = b"stray"
    await small_parts.app.state.coordinator.experiments.store_initial_part(
        made.id, 7, hashlib.sha256(stray).hexdigest(), stray
    )
    data = big()
    await small_parts.admin.upload_initial_model(made.id, data, PART)
    kept = await small_parts.blobs.sizes(f"models/{made.id}/")
    assert sum(kept.values()) == len(data)


async def test_an_experiment_that_never_gets_its_weights_is_stopped_and_cleared(small_parts):
    made = await small_parts.admin.create_experiment("x", config(), "never-comes")
    data = b"half a model"
    coordinator = small_parts.app.state.coordinator
    sha256 = hashlib.sha256(data).hexdigest()
    await coordinator.experiments.store_initial_part(made.id, 0, sha256, data)
    await coordinator.tick()
    assert (await small_parts.admin.experiment(made.id)).state == "awaiting_model"
    small_parts.clock.now += 8 * 86400
    await coordinator.tick()
    shown = await small_parts.admin.experiment(made.id)
    assert (shown.state, shown.reason) == ("stopped", "Its initial weights were never committed.")
    assert await small_parts.blobs.sizes(f"models/{made.id}/") == {}


async def test_a_part_that_came_after_its_round_is_deleted(small_parts):
    experiment, members = await small_parts.start(rounds=1)
    for name in await small_parts.cohort(experiment):
        await members[name].upload(1, 2.0)
    # Its turn was checked before the close, its bytes came after it.
    late = f"uploads/{experiment}/0000001/0000000/00000-late"
    await small_parts.blobs.put(late, b"late")
    running, others = await small_parts.start(rounds=2)
    cohort = await small_parts.cohort(running)
    await others[cohort[0]].upload(1, 2.0)
    for foreign in ("uploads/photo.png", "uploads/2026/summer/photo.png"):  # in a bucket, say
        await small_parts.blobs.put(foreign, b"not ours")
    needed = await small_parts.blobs.sizes(f"uploads/{running}/")
    await small_parts.app.state.coordinator.tick()
    assert await small_parts.blobs.sizes(f"uploads/{experiment}/") == {}
    assert await small_parts.blobs.sizes(f"uploads/{running}/") == needed != {}
    assert await small_parts.blobs.get(foreign) == b"not ours"


@BOTH_STORES
async def test_what_a_stopped_round_left_goes_though_processes_die_or_write_late(small_parts):
    experiment, members = await small_parts.start(rounds=2)
    cohort = await small_parts.cohort(experiment)
    await members[cohort[0]].upload(1, 2.0)

    class Dying:
        def __getattr__(self, name):
            return getattr(small_parts.blobs, name)

        async def delete(self, prefix):
            raise StoreUnavailable("Away.")

    await small_parts.coordinator(blobs=Dying()).experiments.stop(experiment, "Enough.", "x")
    assert await small_parts.blobs.sizes(f"uploads/{experiment}/")
    await small_parts.app.state.coordinator.tick()
    assert await small_parts.blobs.sizes(f"uploads/{experiment}/") == {}
    # An owner that has not heard of it stores a part of the next model.
    await small_parts.blobs.put(f"models/{experiment}/0000001/00000-late", b"late")
    small_parts.clock.now += 900
    await small_parts.app.state.coordinator.tick()
    assert await small_parts.blobs.sizes(f"models/{experiment}/0000001/") == {}
    repo = small_parts.app.state.coordinator.context.repo
    assert (await repo.round(experiment, 1)).swept


@pytest.fixture
async def direct(store, bucket):
    """A coordinator whose weights are in S3, and a client that reaches both."""
    federation = Federation(store.documents, S3Blobs(bucket, url_seconds=60))
    federation.limits = Limits(part_bytes=PART)
    async with federation.serving():
        wire = Wire(federation.app)
        async with client(wire) as federation.admin:
            federation.wire = wire
            yield federation


async def test_a_round_past_the_coordinator(direct):
    api = direct.admin
    made = await api.create_experiment("x", config(clients=2, rounds=1), "direct-round")
    assert made.direct
    await api.upload_initial_model(made.id, big(), made.part_bytes, direct=True)
    members = []
    for n in range(2):
        member = await direct.enrol(made.id, made.enrolment_key, n)
        members.append(member)
    for member, value in zip(members, (2.0, 4.0), strict=True):
        task = await member.status()
        assert task.direct
        base = await member.api.download_model(made.id, 0, PART, direct=True)
        assert base == big()
        import numpy as np

        data = weights(value, big=np.full(300, value, np.float32))
        await member.api.upload_update(made.id, 1, data, 10, {}, PART, direct=True)
    got = await api.download_model(made.id, "latest", PART, direct=True)
    assert value_of(got) == 3.0
    assert got == await api.download_model(made.id, 1, PART)  # and through the coordinator
    away = [r for r in direct.wire.seen if r.url.host != "coordinator"]
    moved = sum(len(r.content) for r in direct.wire.seen if r.url.host == "coordinator")
    assert len(away) > 60
    assert all("authorization" not in r.headers for r in away)
    assert moved < len(big()) * 12  # announcements and commits: no weights
    assert not any("/parts/" in r.url.path for r in direct.wire.seen if r not in away)
    assert await direct.blobs.sizes("uploads/") == {}


async def test_other_bytes_than_were_signed_are_found_at_the_commit_and_sent_again(direct):
    """moto takes what real S3 refuses: so does many an imitation, and the commit must not."""
    api = direct.admin
    made = await api.create_experiment("x", config(), "altered-part")
    data = big()
    parts = [data[i : i + PART] for i in range(0, len(data), PART)]
    key = f"models/{made.id}/0000000/00003-{hashlib.sha256(parts[3]).hexdigest()}"
    await direct.blobs.put(key, bytes(PART))  # the same length, other bytes
    short = f"models/{made.id}/0000000/00004-{hashlib.sha256(parts[4]).hexdigest()}"
    await direct.blobs.put(short, b"short")
    await api.upload_initial_model(made.id, data, PART, direct=True)
    assert await api.download_model(made.id, 0, PART, direct=True) == data


async def test_a_part_that_is_replaced_during_the_commit_is_not_taken_at_its_old_size(direct):
    """Every place in the file is reckoned from its parts' sizes: one that is wrong shifts all."""
    api = direct.admin
    made = await api.create_experiment("x", config(), "replaced-part")
    data = big()
    parts = [data[i : i + PART] for i in range(0, len(data), PART)]
    digests = [hashlib.sha256(part).hexdigest() for part in parts]
    prefix = f"models/{made.id}/0000000"
    keys = [f"{prefix}/{n:05d}-{sha256}" for n, sha256 in enumerate(digests)]
    for key, part in zip(keys, parts, strict=True):
        await direct.blobs.put(key, b"short" if key == keys[1] else part)

    class Replaced(S3Blobs):
        """A store that lets a part be replaced, which happens once it is listed."""

        async def sizes(self, prefix):
            found = await super().sizes(prefix)
            await self.delete(keys[1])
            await self.put(keys[1], parts[1])
            return found

    commit = WeightsCommit(sha256=hashlib.sha256(data).hexdigest(), parts=digests)
    blobs = Replaced(direct.blobs.bucket, url_seconds=60)
    with pytest.raises(PartsMissing, match="Part 1 was replaced while it was read: commit again"):
        await direct.coordinator(blobs=blobs).experiments.commit_initial(made.id, commit)
    await api.upload_initial_model(made.id, data, PART, direct=True)
    assert await api.download_model(made.id, 0, PART) == data


async def test_a_url_that_has_run_out_is_asked_for_again(direct, monkeypatch):
    api = direct.admin
    made = await api.create_experiment("x", config(), "stale-url")
    refused = []
    handle = direct.wire.network.handle_async_request

    async def strict(request):
        if request.method == "PUT" and not refused:
            refused.append(request.url)
            return httpx.Response(403, text="Request has expired")
        return await handle(request)

    monkeypatch.setattr(direct.wire.network, "handle_async_request", strict)
    await api.upload_initial_model(made.id, big(), PART, direct=True)
    assert refused
    assert await api.download_model(made.id, 0, PART) == big()


async def test_a_store_that_refuses_for_good_says_so(direct, monkeypatch):
    async def never(request):
        return httpx.Response(403, text="no")

    made = await direct.admin.create_experiment("x", config(), "refused-url")
    monkeypatch.setattr(direct.wire.network, "handle_async_request", never)
    with pytest.raises(errors.DirectRefused, match="answered 403"):
        await direct.admin.upload_initial_model(made.id, big(), PART, direct=True)
