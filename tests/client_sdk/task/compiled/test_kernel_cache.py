"""Machine code is kept where nobody else can put any, and looked at again before it is used."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from client_sdk.task import models
from client_sdk.task.compiled import kernel_cache, native

KEY, CODE = "a" * 64, b"machine code"
POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler"
)
pytestmark = POSIX


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return kernel_cache.path()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_put_there_is_got_again_and_closed_to_others(folder):
    assert kernel_cache.get(KEY) is None
    kernel_cache.put(KEY, CODE)
    assert kernel_cache.get(KEY) == CODE
    assert (mode(folder), mode(folder / KEY)) == (0o700, 0o600)
    assert names(folder) == [KEY]


@pytest.mark.parametrize("open_to_others", [0o755, 0o770, 0o701])
def test_a_folder_that_others_can_enter_is_not_used(folder, open_to_others):
    kernel_cache.put(KEY, CODE)
    folder.chmod(open_to_others)
    assert kernel_cache.get(KEY) is None
    kernel_cache.put("b" * 64, CODE)
    assert names(folder) == [KEY]


def test_a_folder_that_is_a_link_is_not_used(folder, tmp_path):
    kernel_cache.put(KEY, CODE)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert kernel_cache.get(KEY) is None


def as_a_link(path):
    path.rename(path.with_name("other"))
    path.symlink_to(path.with_name("other"))


@pytest.mark.parametrize(
    "spoil",
    [
        as_a_link,
        lambda path: path.chmod(0o620),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(b""),
        lambda path: (path.unlink(), path.mkdir(mode=0o700)),
    ],
)
def test_a_file_that_is_not_as_it_was_put_there_is_not_used(folder, spoil):
    kernel_cache.put(KEY, CODE)
    spoil(folder / KEY)
    assert kernel_cache.get(KEY) is None


def test_where_nothing_can_be_kept_nothing_fails(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kernel_cache.put(KEY, CODE)
    assert kernel_cache.get(KEY) is None


def test_the_oldest_of_too_many_go(folder, monkeypatch):
    monkeypatch.setattr(kernel_cache, "MOST", 2)
    for number, name in enumerate("abc"):
        kernel_cache.put(name * 64, CODE)
        os.utime(folder / (name * 64), ns=(number, number))
    kernel_cache.put("d" * 64, CODE)
    assert [name[0] for name in names(folder)] == ["c", "d"]


def test_the_key_is_of_all_that_the_code_depends_on(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_cache, "_processor", lambda: "one with wings")
    source, compiler = tmp_path / "x.c", tmp_path / "compiler"
    source.write_text("int x;")
    compiler.write_text("")

    def key(*more):
        return kernel_cache.key([source], [str(compiler), "-O3", *more])

    found = [key(), key("-DA=1")]
    assert key() == found[0]
    source.write_text("int y;")
    found.append(key())
    compiler.write_text("another")
    found.append(key())
    monkeypatch.setenv("CPATH", "/include")
    found.append(key())
    monkeypatch.setattr(kernel_cache, "_processor", lambda: "another")
    found.append(key())
    assert len(set(found)) == 6
    monkeypatch.setattr(kernel_cache, "_processor", lambda: None)
    assert key() is None
    kernel_cache.put(None, CODE)
    assert kernel_cache.get(None) is None


@needs_compiler
def test_a_machine_compiles_once_and_compares_each_time(monkeypatch):
    monkeypatch.setattr(kernel_cache, "_processor", lambda: "this one")
    spec = models.spec_for("digits-cnn", (1, 8, 8), 10)
    compiled, compared = [], []
    compile_it, compare = native._compiled, native._compare
    monkeypatch.setattr(native, "_compiled", lambda *a: compiled.append(a) or compile_it(*a))
    monkeypatch.setattr(
        native, "_compare", lambda kernel: compared.append(kernel) or compare(kernel)
    )
    first, second = native.compile_kernel(spec), native.compile_kernel(spec)
    assert first == second
    assert (len(compiled), len(compared)) == (1, 2)


@needs_compiler
def test_kept_code_that_is_not_right_is_compiled_anew(monkeypatch, folder):
    monkeypatch.setattr(kernel_cache, "_processor", lambda: "this one")
    spec = models.spec_for("digits-cnn", (1, 8, 8), 10)
    good = native.compile_kernel(spec)
    (name,) = names(folder)
    kernel_cache.put(name, b"no library")
    assert native.compile_kernel(spec).code == kernel_cache.get(name)
    assert kernel_cache.get(name) != b"no library"
    assert len(good.code) > 1000
