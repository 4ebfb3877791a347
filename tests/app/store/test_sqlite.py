"""What only a file can go through."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from app.store import sqlite, sqlite_file
from app.store.sqlite import open_sqlite
from app.store.sqlite_faults import translated
from serverless_fl.domain.errors import StoreDenied, StoreRefused, StoreUnavailable

OPEN_AND_INSERT = """
import asyncio, sys
from pathlib import Path
from app.store.sqlite import open_sqlite
async def main():
    documents, _ = await open_sqlite(Path(sys.argv[1]))
    for n in range(20):
        assert await documents.insert("rounds", f"{sys.argv[2]}/{n}", {})
    await documents.close()
asyncio.run(main())
"""
WRITE_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from app.store.sqlite import open_sqlite
async def main():
    documents, blobs = await open_sqlite(Path(sys.argv[1]))
    n = 0
    while True:
        await blobs.put(f"{n:06d}", b"x" * 5000)
        await documents.insert("rounds", f"{n:06d}", {"n": n})
        print(n, flush=True)
        n += 1
asyncio.run(main())
"""


async def test_many_processes_may_open_a_new_file_at_once(tmp_path):
    path = str(tmp_path / "new" / "store.sqlite3")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_INSERT, path, str(n)], stderr=subprocess.PIPE
        )
        for n in range(8)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    documents, _ = await open_sqlite(tmp_path / "new" / "store.sqlite3")
    assert await documents.count("rounds", "") == 160
    await documents.close()


async def test_every_write_that_was_answered_survives_a_sigkill(tmp_path):
    path = tmp_path / "store.sqlite3"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE
    )
    answered = [process.stdout.readline() for _ in range(50)][-1]
    os.kill(process.pid, signal.SIGKILL)
    rest = process.communicate(timeout=30)[0].split()
    last = int(rest[-1] if rest else answered)
    documents, blobs = await open_sqlite(path)
    assert len(await documents.keys("rounds", "")) >= last + 1
    assert len(await blobs.sizes("")) >= last + 1
    await documents.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_a_locked_file_is_said_to_be_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    documents, _ = await open_sqlite(tmp_path / "store.sqlite3")
    await documents.insert("rounds", "a", {})
    locker = sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await documents.insert("rounds", "b", {})
    assert (await documents.get("rounds", "a")).body == {}  # readers are not held up
    locker.execute("ROLLBACK")
    locker.close()
    assert await documents.insert("rounds", "b", {})
    await documents.close()


async def test_a_full_disk_is_said_and_what_was_committed_stays(tmp_path):
    documents, blobs = await open_sqlite(tmp_path / "store.sqlite3")
    await blobs.put("before", b"x" * 1000)
    # SQLite's own limit on the file's pages fails as a full disk does (SQLITE_FULL).
    await documents._database.run(lambda c: c.execute("PRAGMA max_page_count = 10"))
    with pytest.raises(StoreUnavailable, match="full"):
        await blobs.put("much", b"x" * 1_000_000)
    assert await blobs.sizes("") == {"before": 1000}
    await documents._database.run(lambda c: c.execute("PRAGMA max_page_count = 1000000"))
    await blobs.put("much", b"x" * 1_000_000)
    await documents.close()


async def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but a long enough text to be read as one's header" * 20)
    with pytest.raises(StoreUnavailable, match=r"notes\.txt"):
        await open_sqlite(path)


async def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="Cannot make"):
        await open_sqlite(tmp_path / "file" / "store.sqlite3")


def test_only_a_busy_file_is_tried_again(tmp_path, monkeypatch):
    path = tmp_path / "store.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    monkeypatch.setattr(sqlite_file.time, "sleep", lambda _: pytest.fail("it was tried again"))
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        sqlite_file._switch_to_wal(connection)
    connection.close()


async def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "store.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="newer coordinator"):
        await open_sqlite(path)


async def test_the_loop_is_free_while_the_database_waits(tmp_path):
    documents, _ = await open_sqlite(tmp_path / "store.sqlite3")
    locker = sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    write = asyncio.create_task(documents.insert("rounds", "a", {}))
    for _ in range(5):
        await asyncio.sleep(0.01)  # a blocked loop would never come back from the write
    assert not write.done()
    locker.execute("ROLLBACK")
    locker.close()
    assert await write
    await documents.close()


async def held_up(path, *writes):
    """The results of writes that wait together, and what the connection was told meanwhile."""
    documents, blobs = await open_sqlite(path)
    told = []
    await documents._database.run(lambda c: c.set_trace_callback(told.append))
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    first = asyncio.create_task(blobs.put("first", b"1"))
    while not told:  # until it is in the thread, and waits for the lock
        await asyncio.sleep(0.001)
    rest = [asyncio.create_task(write(documents, blobs)) for write in writes]
    await asyncio.sleep(0)
    locker.execute("ROLLBACK")
    locker.close()
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    return documents, blobs, results[1:], told


async def test_writes_that_wait_together_share_a_transaction_and_each_has_its_own_result(tmp_path):
    documents, blobs, results, told = await held_up(
        tmp_path / "store.sqlite3",
        lambda d, b: d.insert("rounds", "a", {"n": 1}),
        lambda d, b: d.insert("rounds", "a", {"n": 2}),
        lambda d, b: d.replace("rounds", "a", 1, {"n": 3}),
        lambda d, b: d.replace("rounds", "a", 1, {"n": 4}),
        lambda d, b: b.put("x", b"2"),
    )
    assert results == [True, False, True, False, None]
    assert told.count("COMMIT") == 1
    assert (await documents.get("rounds", "a")).body == {"n": 3}
    assert await blobs.sizes("") == {"first": 1, "x": 1}
    await documents.close()


async def test_a_write_that_fails_takes_none_of_those_that_waited_with_it_along(tmp_path):
    documents, _, results, told = await held_up(
        tmp_path / "store.sqlite3",
        lambda d, b: d.insert("rounds", "a", {}),
        lambda d, b: b.put("x", object()),
        lambda d, b: d.insert("rounds", "b", {}),
    )
    assert [results[0], results[2]] == [True, True]
    assert isinstance(results[1], Exception)
    assert "ROLLBACK" in told
    assert await documents.keys("rounds", "") == ["a", "b"]
    await documents.close()


async def test_a_read_that_finds_the_file_busy_waits_in_the_thread(tmp_path, monkeypatch):
    documents, _ = await open_sqlite(tmp_path / "store.sqlite3")
    await documents.insert("rounds", "a", {})

    class Busy:
        def execute(self, sql, *_):
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error

    reader, documents._database._reader = documents._database._reader, Busy()
    assert (await documents.get("rounds", "a")).body == {}
    documents._database._reader = reader
    await documents.close()


async def test_rows_and_blobs_beyond_what_is_read_on_the_loop(tmp_path):
    documents, blobs = await open_sqlite(tmp_path / "store.sqlite3")
    many = [f"{n:04d}" for n in range(sqlite.FEW + 3)]
    await asyncio.gather(*(documents.insert("rounds", key, {}) for key in many))
    assert await documents.keys("rounds", "") == many
    assert await documents.keys("rounds", "000") == many[:10]
    large = bytes(sqlite.SMALL + 1)
    await asyncio.gather(blobs.put("large", large), blobs.put("small", b"s" * sqlite.SMALL))
    assert await blobs.get("large") == large
    assert await blobs.get("small") == b"s" * sqlite.SMALL
    assert await blobs.get("none") is None
    await documents.close()


async def test_readers_among_writers_never_see_a_document_go_back(tmp_path):
    """Two adapters over one file, as two processes; each write is known to who asked for it."""
    one, two = [(await open_sqlite(tmp_path / "f"))[0] for _ in range(2)]
    await one.insert("rounds", "a", {"n": 0})
    written = 0

    async def write() -> None:
        nonlocal written
        for n in range(60):
            assert await (one if n % 3 else two).replace("rounds", "a", n + 1, {"n": n + 1})
            written = n + 1

    async def read(documents) -> None:
        while written < 60:
            least = written
            found = await documents.get("rounds", "a")
            assert found.body["n"] >= least and found.revision == found.body["n"] + 1
            await asyncio.sleep(0)

    await asyncio.gather(write(), *(read(d) for d in (one, two, one, two)))
    await one.close()
    await two.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
        (sqlite3.SQLITE_FULL, StoreUnavailable),
        (sqlite3.SQLITE_READONLY, StoreDenied),
        (sqlite3.SQLITE_NOTADB, StoreDenied),
        (sqlite3.SQLITE_TOOBIG, StoreRefused),
    ],
)
def test_a_fault_that_passes_one_that_stays_and_one_of_the_document_are_told_apart(code, kind):
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    found = translated(error, Path("store.sqlite3"))
    assert type(found) is kind
    assert "store.sqlite3 failed: what SQLite says" in found.message
    assert type(translated(OverflowError("secret"), Path("store.sqlite3"))) is StoreRefused
