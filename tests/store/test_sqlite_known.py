"""Documents that the SQLite adapter keeps: as long as nobody has written, and no longer."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from app.store import sqlite, sqlite_file
from app.store.sqlite import open_sqlite


async def test_a_document_that_nobody_changed_is_the_same_object(tmp_path):
    documents, _ = await open_sqlite(tmp_path / "f")
    await documents.insert("rounds", "a", {"n": 1})
    await documents.get("rounds", "b")
    first = await documents.get("rounds", "a")
    for _ in range(3):
        await asyncio.sleep(0)
        assert await documents.get("rounds", "a") is first
    await documents.close()


async def test_a_document_is_the_same_object_after_others_were_written(tmp_path):
    documents, _ = await open_sqlite(tmp_path / "f")
    await documents.insert("rounds", "a", {"n": 1})
    first = await documents.get("rounds", "a")
    await documents.insert("rounds", "b", {})
    assert await documents.get("rounds", "a") is first
    await documents.replace("rounds", "a", 1, {"n": 2})
    assert (await documents.get("rounds", "a")).body == {"n": 2}
    assert first.body == {"n": 1}
    await documents.close()


async def test_what_is_known_of_a_document_ends_with_the_next_write_of_any_process(tmp_path):
    documents, _ = await open_sqlite(tmp_path / "f")
    await documents.insert("rounds", "a", {"n": 1})
    other = sqlite3.connect(tmp_path / "f", isolation_level=None)
    for n in range(2, 40):
        assert (await documents.get("rounds", "a")).body == {"n": n - 1}
        assert await documents.get("rounds", f"late {n}") is None
        if n % 2:
            assert await documents.replace("rounds", "a", n - 1, {"n": n})
            assert await documents.insert("rounds", f"late {n}", {})
        else:
            other.execute(
                "UPDATE documents SET revision = ?, body = ? WHERE key = 'a'", (n, f'{{"n":{n}}}')
            )
            row = ("rounds", f"late {n}", 1, "{}")
            other.execute("INSERT INTO documents (kind, key, revision, body) VALUES (?,?,?,?)", row)
            await asyncio.sleep(0)  # whoever may know of it was told by the loop
        assert (await documents.get("rounds", "a")).revision == n
        assert await documents.get("rounds", f"late {n}") is not None
    other.close()
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


async def test_a_document_that_was_waited_for_in_the_thread_is_not_remembered(
    tmp_path, monkeypatch
):
    documents, _ = await open_sqlite(tmp_path / "f")
    await documents.insert("rounds", "a", {"n": 1})

    def busy(self, work, **_):
        raise sqlite_file.Busy

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file.Database, "read_now", busy)
        first = await documents.get("rounds", "a")
    again = await documents.get("rounds", "a")
    assert first is not again
    assert first.body == again.body == {"n": 1}
    await documents.close()


async def test_no_more_is_remembered_than_there_is_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "KNOWN", 20_000)
    documents, _ = await open_sqlite(tmp_path / "f")
    for n in range(40):
        await documents.insert("rounds", str(n), {"text": "x" * 1000})
    for n in range(40):
        assert await documents.get("rounds", str(n)) is not None
        assert len(documents._known._entries) <= 20
    await documents.close()


async def test_a_database_in_memory_remembers_nothing():
    documents, _ = await open_sqlite(Path(":memory:"))
    await documents.insert("rounds", "a", {"n": 1})
    assert (await documents.get("rounds", "a")).body == {"n": 1}
    await documents.replace("rounds", "a", 1, {"n": 2})
    assert (await documents.get("rounds", "a")).body == {"n": 2}
    await documents.close()


@pytest.mark.parametrize("before", ["read", "nothing"])
async def test_a_write_at_the_moment_of_the_read_is_seen_by_the_next_turn(
    tmp_path, monkeypatch, before
):
    """Whether anybody has written is asked before the row: asked after it, a write in between
    would pass for known, and the row of before would be given for ever.
    """
    documents, _ = await open_sqlite(tmp_path / "f")
    await documents.insert("rounds", "a", {"n": 1})
    if before == "read":
        await documents.get("rounds", "other")  # the snapshot of this turn is open by now
    other = sqlite3.connect(tmp_path / "f", isolation_level=None)
    read_now, written = sqlite_file.Database.read_now, []

    def interrupted(self, work, **options):
        found = read_now(self, work, **options)
        if isinstance(found, tuple) and found[0] == "a" and not written:
            written.append(other.execute("UPDATE documents SET revision = 2, body = '{\"n\":2}'"))
            self._look_away()  # nothing says that the snapshot outlives the read
        return found

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file.Database, "read_now", interrupted)
        assert (await documents.get("rounds", "a")).body == {"n": 1}
    assert written
    for _ in range(2):
        await asyncio.sleep(0)
        assert (await documents.get("rounds", "a")).body == {"n": 2}
    other.close()
    await documents.close()
