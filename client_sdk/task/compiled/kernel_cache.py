"""Keeps compiled loops, so that a machine compiles each once.

This process runs machine code from here, so nobody else may be able to put it here: the folder and
each file must be this user's and closed to all others (0700), and a file must not be a link. A
file's name is a digest of all that the code depends on (source, compiler, processor, shape), and
the file begins with the code's own digest. `native` compares a kept loop with the readable one
again before it uses it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

MOST = 32  # files; each has about 50 kB
_DIGEST = hashlib.sha256().digest_size
_ENVIRONMENT = ("COMPILER_PATH", "CPATH", "C_INCLUDE_PATH", "GCC_EXEC_PREFIX", "LIBRARY_PATH")


def key(sources: Sequence[Path], command: Sequence[str]) -> str | None:
    """A name for the result of this command on this machine; None where the processor is unknown.

    Machines of several kinds may share a home folder, and code for one processor may crash on
    another.
    """
    processor = _processor()
    if processor is None:
        return None
    compiler = Path(command[0]).stat()
    facts = [
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources],
        list(command),
        [os.path.realpath(command[0]), compiler.st_size, compiler.st_mtime_ns],
        {name: os.environ.get(name) for name in _ENVIRONMENT},
        [platform.machine(), platform.system(), platform.release(), processor],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def get(name: str | None) -> bytes | None:
    """The code that is kept under this key; None where there is none that can be trusted."""
    with contextlib.suppress(OSError), _folder() as folder:
        if name is None or folder is None:
            return None
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            if not _private(os.fstat(descriptor), stat.S_ISREG):
                return None
            kept = file.read()
        digest, code = kept[:_DIGEST], kept[_DIGEST:]
        return code if hashlib.sha256(code).digest() == digest else None
    return None


def put(name: str | None, code: bytes) -> None:
    """Keep the code, if that is possible, and delete the oldest files beyond MOST."""
    with contextlib.suppress(OSError), _folder() as folder:
        if name is None or folder is None:
            return
        draft = f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o600, dir_fd=folder), "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        kept = {
            found: os.stat(found, dir_fd=folder, follow_symlinks=False).st_mtime_ns
            for found in os.listdir(folder)  # noqa: PTH208  (a Path knows no descriptor)
        }
        for old in sorted(kept, key=kept.__getitem__)[:-MOST]:
            os.unlink(old, dir_fd=folder)


def path() -> Path:
    """The folder, as the XDG Base Directory Specification has it. Raises OSError."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # the system does not know this user
        raise OSError("there is no home folder") from error
    return base / "serverless-fl" / "kernels"


@contextlib.contextmanager
def _folder() -> Iterator[int | None]:
    """The folder's descriptor; None where others may write to the folder. Raises OSError."""
    at = path()
    at.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        at.mkdir(mode=0o700)
    descriptor = os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # The descriptor stays this folder's, even if somebody puts another in its place.
        yield descriptor if _private(os.fstat(descriptor), stat.S_ISDIR) else None
    finally:
        os.close(descriptor)


def _private(found: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return is_kind(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _processor() -> str | None:
    """The kernel's description of the processor; None where there is none."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = ("flags", "features", "isa", "model name", "cpu")
        found = sorted({line for line in lines if line.partition(":")[0].strip().lower() in names})
        return "\n".join(found) or None
    return None
