"""The admin key that a coordinator makes for its own machine."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.store import local_key
from app.store.local_key import local_admin_key
from serverless_fl.domain.errors import StoreUnavailable

MAKE = """
import sys
from pathlib import Path
from app.store.local_key import local_admin_key
print(local_admin_key(Path(sys.argv[1]))[0])
"""


def test_workers_that_start_at_once_have_one_key(tmp_path):
    folder = tmp_path / "new" / "data"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(folder)],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    keys = {worker.communicate(timeout=60)[0].strip() for worker in workers}
    assert len(keys) == 1
    assert len(keys.pop()) == 43  # 256 bits
    assert local_admin_key(folder)[0] == (folder / "admin-key").read_text(encoding="utf-8").strip()


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    key, path = local_admin_key(tmp_path)
    assert local_admin_key(tmp_path) == (key, path)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_nobody_else_may_read_the_key_or_look_into_its_folder(tmp_path):
    _, path = local_admin_key(tmp_path / "data")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_key_that_was_never_written_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(local_key, "WRITING_SECONDS", 0.05)
    (tmp_path / "admin-key").touch()
    with pytest.raises(StoreUnavailable, match="is empty: "):
        local_admin_key(tmp_path)
