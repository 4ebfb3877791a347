"""Documents that the SQLite adapter remembers until anybody writes to the file."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from app.store import sqlite_known
from app.store.sqlite import open_sqlite
from app.store.sqlite_file import Database
from app.store.sqlite_known import Row
from serverless_fl.domain.errors import StoreUnavailable


@pytest.fixture
async def documents(tmp_path):
    opened, _ = await open_sqlite(tmp_path / "f")
    yield opened
    await opened.close()


def counted(documents, monkeypatch) -> list[str]:
    """The keys of the documents that are read from the file from now on."""
    keys: list[str] = []
    read = documents._known._read

    async def counting(kind: str, key: str) -> Row | None:
        keys.append(key)
        return await read(kind, key)

    monkeypatch.setattr(documents._known, "_read", counting)
    return keys


async def test_a_document_and_its_absence_are_read_once(documents, monkeypatch):
    await documents.insert("rounds", "a", {"n": 1})
    keys = counted(documents, monkeypatch)
    for _ in range(3):
        assert (await documents.get("rounds", "a")).body == {"n": 1}
        assert await documents.get("rounds", "b") is None
        await asyncio.sleep(0)
    assert keys == ["a", "b"]


async def test_the_switch_makes_each_call_read(documents, monkeypatch):
    monkeypatch.setattr(sqlite_known, "ON", False)
    keys = counted(documents, monkeypatch)
    for _ in range(3):
        assert await documents.get("rounds", "b") is None
    assert keys == ["b", "b", "b"]


async def test_any_write_of_any_process_ends_what_is_remembered(documents, tmp_path):
    await documents.insert("rounds", "a", {"n": 1})
    other = sqlite3.connect(tmp_path / "f", isolation_level=None)
    for n in range(2, 40):
        assert (await documents.get("rounds", "a")).body == {"n": n - 1}
        assert await documents.get("rounds", f"late {n}") is None
        if n % 2:
            assert await documents.replace("rounds", "a", n - 1, {"n": n})
            assert await documents.insert("rounds", f"late {n}", {})
        else:
            row = (n, f'{{"n":{n}}}')
            other.execute("UPDATE documents SET revision = ?, body = ? WHERE key = 'a'", row)
            row = ("rounds", f"late {n}", 1, "{}")
            other.execute("INSERT INTO documents (kind, key, revision, body) VALUES (?,?,?,?)", row)
            await asyncio.sleep(0)  # a caller learns of a write from the event loop
        assert (await documents.get("rounds", "a")).revision == n
        assert await documents.get("rounds", f"late {n}") is not None
    other.close()


async def test_the_version_is_asked_for_before_the_row(documents, tmp_path, monkeypatch):
    """A write after the row was read makes another version, so the next turn reads again."""
    await documents.insert("rounds", "a", {"n": 1})
    other = sqlite3.connect(tmp_path / "f", isolation_level=None)
    read = documents._known._read

    async def interrupted(kind: str, key: str) -> Row | None:
        found = await read(kind, key)
        other.execute("UPDATE documents SET revision = 2, body = '{\"n\":2}'")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(documents._known, "_read", interrupted)
        assert (await documents.get("rounds", "a")).body == {"n": 1}
    await asyncio.sleep(0)
    assert (await documents.get("rounds", "a")).body == {"n": 2}
    other.close()


async def test_a_read_that_others_overtook_is_not_remembered(documents, monkeypatch):
    await documents.insert("rounds", "a", {"n": 1})
    read, late = documents._known._read, asyncio.Event()

    async def slow(kind: str, key: str) -> Row | None:
        found = await read(kind, key)
        await late.wait()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(documents._known, "_read", slow)
        overtaken = asyncio.create_task(documents.get("rounds", "a"))
        await asyncio.sleep(0)
    await documents.replace("rounds", "a", 1, {"n": 2})
    assert await documents.get("rounds", "b") is None
    late.set()
    assert (await overtaken).body == {"n": 1}
    assert (await documents.get("rounds", "a")).body == {"n": 2}


async def test_a_busy_file_is_read_and_not_remembered(documents, monkeypatch):
    await documents.insert("rounds", "a", {"n": 1})
    monkeypatch.setattr(Database, "version", lambda self: None)
    keys = counted(documents, monkeypatch)
    for _ in range(2):
        assert (await documents.get("rounds", "a")).body == {"n": 1}
    assert keys == ["a", "a"]


async def test_a_document_is_parsed_again_only_if_its_row_is_another_one(documents, tmp_path):
    await documents.insert("rounds", "a", {"n": 1})
    await documents.insert("rounds", "b", {"n": 1})
    one, two = [await documents.get("rounds", key) for key in "ab"]
    assert await documents.replace("rounds", "b", 1, {"n": 2})
    assert await documents.get("rounds", "a") is one
    assert (await documents.get("rounds", "b")).body == {"n": 2}
    await documents.delete("rounds", "a")
    await documents.insert("rounds", "a", {"n": 3})  # the revision is the deleted document's
    assert (await documents.get("rounds", "a")).body == {"n": 3}
    assert (one.body, two.body) == ({"n": 1}, {"n": 1})


async def test_what_is_remembered_is_bounded_in_bytes(documents, monkeypatch):
    monkeypatch.setattr(sqlite_known, "MOST_BYTES", 20_000)
    await documents.insert("rounds", "large", {"n": "x" * 15_000})
    for n in range(50):
        assert await documents.get("rounds", str(n)) is None
        assert (await documents.get("rounds", "large")).revision == 1
        known = documents._known
        assert 15_000 < known._bytes == sum(map(sqlite_known._size, known._known.values()))
        assert known._bytes <= 20_000


async def test_a_database_in_memory_remembers_nothing():
    documents, _ = await open_sqlite(Path(":memory:"))
    await documents.insert("rounds", "a", {"n": 1})
    assert (await documents.get("rounds", "a")).body == {"n": 1}
    await documents.replace("rounds", "a", 1, {"n": 2})
    assert (await documents.get("rounds", "a")).body == {"n": 2}
    await documents.close()


async def test_a_closed_database_gives_nothing_that_it_remembers(tmp_path):
    documents, _ = await open_sqlite(tmp_path / "f")
    assert await documents.get("rounds", "a") is None
    await documents.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await documents.get("rounds", "a")
