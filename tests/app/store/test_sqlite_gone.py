"""A database file that is taken away, replaced, cut or locked while it is open."""

import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from app.store.sqlite import open_sqlite
from app.store.sqlite_check import SUFFIXES
from serverless_fl.domain.errors import StoreUnavailable


@pytest.fixture
async def opened(tmp_path):
    path = tmp_path / "data" / "store.sqlite3"
    documents, blobs = await open_sqlite(path)
    await blobs.put("b", b"x" * 100_000)
    assert await documents.insert("rounds", "a", {"n": 1})
    await documents.check()
    yield path, documents, blobs
    await documents.close()


def files(path):
    return [path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES]


def delete(path):
    for file in files(path):
        file.unlink()


def replace(path):
    shutil.copy(path, f"{path}.copy")
    Path(f"{path}.copy").replace(path)


@pytest.mark.parametrize("take_away", [delete, replace, Path.unlink], ids=["all", "other", "one"])
async def test_nothing_is_written_to_files_that_nobody_will_find(opened, take_away):
    path, documents, blobs = opened
    take_away(path)
    with pytest.raises(StoreUnavailable, match="was deleted or replaced"):
        await documents.check()
    with pytest.raises(StoreUnavailable, match="was deleted or replaced"):
        await documents.insert("rounds", "b", {})
    with pytest.raises(StoreUnavailable, match="was deleted or replaced"):
        await documents.replace("rounds", "a", 1, {"n": 2})
    with pytest.raises(StoreUnavailable, match="was deleted or replaced"):
        await blobs.put("c", b"x")


async def test_the_log_alone_is_missed(opened):
    path, documents, _ = opened
    Path(f"{path}-wal").unlink()
    with pytest.raises(StoreUnavailable, match="was deleted or replaced"):
        await documents.check()


@pytest.mark.parametrize("left", [0, 33_000])
async def test_a_log_that_was_cut_is_noticed(opened, left):
    path, documents, blobs = opened
    await blobs.put("d", b"y" * 200_000)  # is in the log only
    os.truncate(f"{path}-wal", left)
    with pytest.raises(StoreUnavailable):
        await documents.check()


async def test_a_database_that_was_emptied_is_noticed(opened):
    path, documents, _ = opened
    os.truncate(path, 0)
    for call in (documents.check(), documents.insert("rounds", "b", {}), documents.check()):
        with pytest.raises(StoreUnavailable, match="is empty now"):
            await call


async def test_a_database_that_takes_no_writes_is_noticed(opened):
    """Whatever the reason: a full disk, a disk that was remounted, rights that were taken away."""
    _, documents, _ = opened
    await documents._database.run(lambda c: c.execute("PRAGMA query_only = ON"))
    with pytest.raises(StoreUnavailable, match="attempt to write a readonly database"):
        await documents.check()
    await documents._database.run(lambda c: c.execute("PRAGMA query_only = OFF"))
    await documents.check()


async def test_what_other_programs_may_do_is_no_fault(opened):
    path, documents, blobs = opened
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert Path(f"{path}-wal").stat().st_size == 0
        await documents.check()
        await blobs.delete("b")
        other.execute("VACUUM")
        await documents.check()
    other.close()
    again, _ = await open_sqlite(path)  # as another worker
    await again.check()
    await again.close()
    await documents.check()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
async def test_other_users_of_the_machine_are_kept_out(opened):
    path, _, _ = opened
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in files(path)] == [0o600] * 3


async def test_folders_that_are_not_there_yet_are_made(tmp_path):
    path = tmp_path / "one" / "two" / "three" / "store.sqlite3"
    documents, _ = await open_sqlite(path)
    await documents.check()
    assert path.is_file()
    await documents.close()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
async def test_a_file_of_an_earlier_version_is_closed_to_others_and_its_folder_is_left(tmp_path):
    path = tmp_path / "store.sqlite3"
    documents, _ = await open_sqlite(path)
    await documents.close()
    path.chmod(0o644)
    tmp_path.chmod(0o755)
    documents, _ = await open_sqlite(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    await documents.close()


async def test_one_in_memory_has_no_files_to_look_at():
    documents, _ = await open_sqlite(Path(":memory:"))
    await documents.check()
    await documents.close()
