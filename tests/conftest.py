"""What all tests share: the stores, and a MongoDB to talk to over TCP."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import httpx
import hypothesis
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from app.store.mongo import MongoBlobs, MongoDocuments, open_mongo
from app.store.sqlite import SQLiteBlobs, SQLiteDocuments, open_sqlite
from examples.containers import free_port, wait_for_port
from tests.support import scratch, warm
from tests.support.federation import Federation
from tests.support.mongo import MongoServer
from tests.support.processes import QUICK, SMALL, Server, run

# A slow machine is no failure.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# Nothing of the machine's own settings may reach the tests, but the MongoDB they shall use.
MONGODB_URL = os.environ.pop("MONGODB_URL", None)
for name in [n for n in os.environ if n.startswith("FL_")]:
    del os.environ[name]
# The cores are shared: threads of PyTorch would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


CONFORMANCE = PurePosixPath("tests/conformance")

# The processes of pytest-xdist have it from the one that starts them, which deletes it.
MEMORY = scratch.to_memory()

# The hundred simulations of the tests would each start a coordinator anew, for a second.
subprocess.Popen = warm.ForkedCoordinator


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        warm.share()


def pytest_unconfigure() -> None:
    warm.stop()
    if MEMORY is not None:
        shutil.rmtree(MEMORY, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reversed", action="store_true", help="run the last test first")


class ByFile(LoadFileScheduling):
    """Each file is of one process of pytest-xdist, and so are all those that share containers."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return str(CONFORMANCE) if CONFORMANCE in PurePosixPath(file).parents else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--reversed"):
        items.reverse()


@pytest.fixture(scope="session")
def mongodb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The MongoDB of the environment's MONGODB_URL, or one that is started for the tests."""
    if MONGODB_URL:
        yield MONGODB_URL
        return
    server = MongoServer(tmp_path_factory.mktemp("mongo"))
    server.start()
    yield server.url
    server.stop()


@dataclass
class Store:
    """Both ports over one database; `reopen` connects to it as another process would."""

    documents: SQLiteDocuments | MongoDocuments
    blobs: SQLiteBlobs | MongoBlobs
    reopen: Callable[[], Awaitable[Store]]


@pytest.fixture
async def fresh_store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[Store]]]:
    """Makes empty stores of one kind, as many as a test wants: SQLite, or both by BOTH_STORES."""
    kind = getattr(request, "param", "sqlite")
    opened: list[SQLiteDocuments | MongoDocuments] = []
    names: list[str] = []

    async def make() -> Store:
        names.append(f"test_{secrets.token_hex(6)}")
        return await connect(names[-1])

    async def connect(name: str) -> Store:
        documents: SQLiteDocuments | MongoDocuments
        blobs: SQLiteBlobs | MongoBlobs
        if kind == "sqlite":
            documents, blobs = await open_sqlite(tmp_path / f"{name}.sqlite3")
        else:
            documents, blobs = await open_mongo(request.getfixturevalue("mongodb_url"), name)
        opened.append(documents)
        return Store(documents, blobs, lambda: connect(name))

    yield make
    for documents in opened:
        await documents.close()
    if kind == "mongo":
        client: AsyncIOMotorClient = AsyncIOMotorClient(request.getfixturevalue("mongodb_url"))
        await asyncio.gather(*(client.drop_database(name) for name in names))
        client.close()


@pytest.fixture(scope="session")
def aws_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto's server, which speaks S3's protocol (and others of AWS) over TCP."""
    port = free_port()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "moto_server"), "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_port(port, 60)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def bucket(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket; the environment leads boto3 to it."""
    for name, value in {
        "AWS_ENDPOINT_URL": aws_endpoint,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    name = f"weights-{secrets.token_hex(6)}"
    boto3.client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    return name


@pytest.fixture
async def store(fresh_store: Callable[[], Awaitable[Store]]) -> Store:
    return await fresh_store()


@pytest.fixture
async def federation(store: Store) -> AsyncIterator[Federation]:
    """A coordinator over the store, answering over ASGI; its clock stands still."""
    federation = Federation(store.documents, store.blobs)
    async with federation.serving():
        yield federation


@pytest.fixture
def quick(federation: Federation) -> Federation:
    """The same, whose clients are told to come back at once."""
    federation.limits = replace(federation.limits, poll_min_seconds=0.01)
    federation.app.state.coordinator = federation.coordinator()
    return federation


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real coordinator, as an operator starts it, that the tests of a file share."""
    with Server(FL_DATA_DIR=str(tmp_path_factory.mktemp("coordinator"))) as server:
        yield server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    """Plain HTTP to that coordinator, with the admin's key."""
    with server.as_admin() as http:
        yield http


@pytest.fixture(scope="session")
def quiet_run(tmp_path_factory):
    """One small run that nothing disturbs: what the others are compared with."""
    return undisturbed(tmp_path_factory, "quiet", SMALL)


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory):
    """The same with few epochs."""
    return undisturbed(tmp_path_factory, "quick", QUICK)


def undisturbed(tmp_path_factory, name, settings):
    """A run that the processes of pytest-xdist share, made by the first that asks for it."""
    together = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent / f"{name}-{together}") if together else base / name
    folder.mkdir(exist_ok=True)
    out, saved = folder / "out", folder / "done.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not saved.exists():
            done = run(*settings, "--out", str(out), "--json", DRAW_PLOTS="1")
            assert done.returncode == 0, done.stderr
            saved.write_text(json.dumps([done.stdout, done.stderr]), encoding="utf-8")
    stdout, stderr = json.loads(saved.read_bytes())
    return out, subprocess.CompletedProcess(settings, 0, stdout, stderr)
