"""Where `join` keeps a client's secret, and who may have it."""

import json
import multiprocessing
import os
import stat
import subprocess
import sys

import pytest

from client_sdk.api import key_file
from client_sdk.errors import BadSettings, UsageError

HERE = "https://coordinator.example"
ID = "20261124-101500-9f2c1a"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key_of(server=HERE, experiment=ID, name="", path=None):
    with key_file.hold(path, server, experiment, name) as key:
        return key


def test_a_client_keeps_its_key_for_itself(folder):
    key = key_of()
    assert len(key) >= 32
    assert key_of() == key
    (file,) = (folder / ".serverless-fl").iterdir()
    assert ID in file.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "other",
    [
        "http://coordinator.example",
        "https://coordinator.example:8443",
        "https://other.example",
        "https://coordinator.example.evil",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
    ],
)
def test_no_two_coordinators_get_one_key(other):
    assert key_of(other) != key_of()


@pytest.mark.parametrize(
    "same", ["https://COORDINATOR.example/", "https://coordinator.example:443", f" {HERE} "]
)
def test_one_coordinator_may_be_spelt_in_many_ways(same):
    assert key_of(same) == key_of()


def test_names_meet_in_no_file():
    names = [
        "",
        "a b",
        "a-b",
        "a/b",
        "a?b",
        "A-b",
        "a_b",
        "ä-b",
        "a-b ",
        "x" * 40,
        "x" * 41,
        "病",
        "院",
    ]
    names += ["../../a", "con", "a\x00b", "\n", "e\u0301", "\u00e9", "x" * 10_000]
    keys = {key_of(name=name) for name in names}
    assert len(keys) == len(names)
    # Nor do an experiment and a name that make up the same text.
    assert key_of(experiment="a-b", name="c") != key_of(experiment="a", name="b-c")
    assert key_of(experiment="../x") != key_of(experiment="--x")


def test_a_key_file_of_ones_own_is_bound_to_its_coordinator(folder):
    path = folder / "some" / "own.key"
    key = key_of(path=path)
    assert key_of(path=path) == key
    with pytest.raises(UsageError, match="another coordinator") as caught:
        key_of("https://other.example", path=path)
    assert key not in str(caught.value)
    # The sentence says how a coordinator may move.
    saved = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**saved, "server": "https://other.example:443"}))
    assert key_of("https://other.example", path=path) == key


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_key_that_somebody_put_there_counts(folder, end):
    path = folder / "own.key"
    path.write_bytes(b"k" * 40 + end.encode())
    assert key_of(path=path) == "k" * 40


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"short", b"k" * 129, b"k" * 40 + b"!", b"[]", b'{"server": 1}', b"[" * 9000]
    + [json.dumps({"server": f"{HERE}:443", "client_key": key}).encode() for key in (1, "x", None)],
)
def test_a_file_that_is_no_key_is_said_so(folder, content):
    path = folder / "own.key"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"own\.key"):
        key_of(path=path)
    assert path.read_bytes() == content


def test_a_file_that_was_begun_and_not_written_is_written(folder):
    path = folder / "own.key"
    path.touch()
    assert key_of(path=path) == key_of(path=path)


def test_a_key_of_an_earlier_version_is_given_to_nobody_unasked(folder):
    earlier = folder / ".serverless-fl" / f"{ID}-St--Mary.key"
    earlier.parent.mkdir()
    earlier.write_text("k" * 43)
    with pytest.raises(UsageError, match="--key-file"):
        key_of(name="St. Mary")
    assert key_of(name="St. Mary", path=earlier) == "k" * 43
    assert key_of(name="other") != "k" * 43


def test_a_folder_in_the_files_place_is_one_sentence(folder):
    with pytest.raises(UsageError, match="Cannot keep"):
        key_of(path=folder)
    (folder / "file").touch()
    with pytest.raises(UsageError, match="Cannot keep"):
        key_of(path=folder / "file" / "own.key")


def test_an_address_that_is_none_is_no_reason_for_a_traceback():
    with pytest.raises(BadSettings):
        key_of("http://x:80a")


def test_two_at_once_are_not_one_client(folder):
    path = folder / "own.key"
    with key_file.hold(path, HERE, ID, ""):
        with pytest.raises(UsageError, match="Another join"):
            key_of(path=path)
        assert key_of(name="other")
    key_of(path=path)


def _hold(path, taken, go_on):
    with key_file.hold(path, HERE, ID, ""):
        taken.set()
        go_on.wait(60)


def test_nor_in_two_processes_and_one_that_was_killed_holds_nothing(folder):
    path = folder / "own.key"
    context = multiprocessing.get_context("spawn")
    taken, go_on = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(path, taken, go_on))
    process.start()
    try:
        assert taken.wait(60)
        with pytest.raises(UsageError, match="Another join"):
            key_of(path=path)
    finally:
        process.kill()
        process.join()
    key_of(path=path)


@pytest.mark.skipif(sys.platform == "win32", reason="children do not inherit files there")
def test_a_child_process_does_not_keep_it(folder):
    """A training process may outlive a killed join for a moment."""
    path = folder / "own.key"
    with key_file.hold(path, HERE, ID, ""):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        key_of(path=path)
    finally:
        child.communicate(b"\n")


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="an administrator may write to any file"
)
def test_a_secret_that_is_mounted_for_reading_alone_will_do(folder):
    path = folder / "own.key"
    path.write_text("k" * 40)
    path.chmod(0o400)
    assert key_of(path=path) == "k" * 40
