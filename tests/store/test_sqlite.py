"""What only a file can go through."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from app.domain.errors import StoreUnavailable
from app.store import sqlite
from app.store.sqlite import open_sqlite

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
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
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
    monkeypatch.setattr(sqlite.time, "sleep", lambda _: pytest.fail("it was tried again"))
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        sqlite._switch_to_wal(connection)
    connection.close()


async def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "store.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="newer version"):
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
