"""Python programs as forks of a process that has imported PyTorch and FastAPI already.

A command of its own imports them for two seconds of a core. A fork does not, and is a process like
any other: with its own environment, folder, arguments, files, process group, signals and exit code.
It cannot show what a start shows: options of the interpreter, what is imported when, what a library
reads from the environment as it is imported. Tests of these, and tests that look at a command's
children, start Python anew: docs/decisions/0048-tests-fork-commands.md names them.

The process is made by the first test that wants it. The processes of pytest-xdist share one, which
the process that starts them makes (`share`).

A fork writes one dot in place of each plot, which would take half the time of a small run. Where
DRAW_PLOTS is set, it draws.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import inspect
import io
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from contextlib import ExitStack, suppress
from importlib.machinery import PathFinder
from multiprocessing import util
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from pydantic import BaseModel

AVAILABLE = hasattr(os, "pidfd_open")  # Linux
ROOT = Path(__file__).parents[2]
LARGEST = 200_000  # bytes of a request

# What commands import late. `app.main` is left out: it reads the environment as it is imported.
LIBRARIES = (
    *("torch.multiprocessing", "sklearn.datasets", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "multiprocessing.forkserver", "safetensors.numpy"),
    *("uvicorn.protocols.http.httptools_impl", "uvicorn.loops.uvloop", "uvicorn.lifespan.on"),
    *("fastapi_offline", "motor.motor_asyncio", "rich.live"),
)
OURS = {
    "app": {"main", "__main__", "aws_lambda", "openwhisk"},  # which read settings at once
    "client_sdk": {"__main__", "trackers"},
    "serverless_fl": set(),
}

# These decide how the interpreter or a library starts; a fork would come too late for them.
EARLY = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "OPENBLAS_", "MKL_", "MPL", "MALLOC_")
PATHS = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE")

ANEW = subprocess.Popen

SHARED = "WARM_PROCESS"  # a variable: the address, for processes of pytest-xdist

address = os.environ.pop(SHARED, "")  # of the warm process
_open = ExitStack()
_starting = threading.Lock()


class Program(NamedTuple):
    """What the interpreter is told to run."""

    safe: bool  # -P: without the working folder
    kind: str  # "-m", "-c", or "" for a file
    words: list[str]


def program_of(arguments: object) -> Program | None:
    if not isinstance(arguments, list) or not arguments or arguments[0] != sys.executable:
        return None
    words = [str(word) for word in arguments[1:]]
    safe = words[:1] == ["-P"]
    words = words[safe:]
    if words[:1] in (["-m"], ["-c"]):
        return Program(safe, words[0], words[1:])
    return Program(safe, "", words) if words and not words[0].startswith("-") else None


def early(environment) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k.startswith(EARLY) and k not in PATHS}


_started_with = early(os.environ) if address else {}  # what of its environment counts


class Popen(ANEW):
    """As subprocess's, for a program of Python: it runs as a fork of the warm process.

    What cannot be a fork starts anew.
    """

    _connection: socket.socket | None = None

    def _execute_child(self, *given):
        global address  # noqa: PLW0603
        told = inspect.signature(ANEW._execute_child).bind(self, *given).arguments
        program = program_of(told["args"])
        environment = dict(os.environ if told["env"] is None else told["env"])
        if program is None or told["shell"] or not AVAILABLE:
            super()._execute_child(*given)
            return
        with _starting:
            address = address or _start()
        if early(environment) != (_started_with or early(os.environ)):
            super()._execute_child(*given)
            return
        files = {0: told["p2cread"], 1: told["c2pwrite"], 2: told["errwrite"]}
        files = {number: number if file < 0 else file for number, file in files.items()}
        files |= {file: file for file in told["pass_fds"]}
        request = {
            "program": program,
            "environment": environment,
            "folder": str(told["cwd"] or Path.cwd()),
            "files": list(files),
            "session": told["start_new_session"],
            "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        }
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(address)
        socket.send_fds(self._connection, [json.dumps(request).encode()], list(files.values()))
        self.pid = int(self._connection.recv(LARGEST))
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(told[pipe] for pipe in pipes))

    def _try_wait(self, wait_flags):
        if self._connection is None:
            return super()._try_wait(wait_flags)
        if wait_flags & os.WNOHANG and not select.select([self._connection], [], [], 0)[0]:
            return 0, 0
        answer = self._connection.recv(LARGEST)
        self._connection.close()
        return self.pid, int(answer or 9)  # no answer: the warm process was killed

    def _internal_poll(self, _deadstate=None, **given):
        if self._connection is None:
            return super()._internal_poll(_deadstate, **given)
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid and self.returncode is None:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def run(arguments, *, timeout=300, **options) -> subprocess.CompletedProcess:
    """As subprocess.run, with what it writes as text."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    with Popen(arguments, **options) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def _start() -> str:
    """Start the warm process, which ends with this one. Gives the address of its socket."""
    _started_with.update(early(os.environ))
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    found = f"{folder.name}/socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(found)
        listener.listen(64)
        code = f"import tests.support.warm as warm; warm.main({listener.fileno()}, {found!r})"
        process = ANEW(
            [sys.executable, "-c", code],
            env={name: value for name, value in os.environ.items() if name not in PATHS}
            | {"OPENBLAS_NUM_THREADS": "1"},  # more would be threads, which a fork does not copy
            cwd=ROOT,
            stdin=subprocess.PIPE,  # its end tells the warm process that this one is gone
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )

    _open.callback(folder.cleanup)
    _open.callback(process.wait)
    _open.callback(process.stdin.close)
    return found


def share() -> None:
    """Start the warm process for this process and all that it starts from now on."""
    global address  # noqa: PLW0603
    if AVAILABLE:
        os.environ[SHARED] = address = _start()


def stop() -> None:
    """End the warm process that this one has made."""
    global address  # noqa: PLW0603
    address = ""
    _open.close()


def main(number: int, found: str) -> None:
    """Of the warm process: import everything, and then return in each fork, as its program."""
    global address  # noqa: PLW0603
    address = found
    base = sys.path[1:]  # without this folder
    subprocess.Popen = ForkedCoordinator
    util.spawnv_passfds = _forked_process
    for name in [*LIBRARIES, *_our_modules()]:
        with suppress(ImportError):  # a package of the operator's choice
            importlib.import_module(name)
    _build_what_is_built_late()
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the pages of all that is imported
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork copies one thread"
    request, files = _serve(socket.socket(fileno=number))
    _become(request, files, base)
    _end_with(_code_of(Program(*request["program"])))


def _build_what_is_built_late() -> None:
    """Build the validators of our pydantic models, which each fork would build again."""
    models = [BaseModel]
    for model in models:
        models += [each for each in model.__subclasses__() if each not in models]
        if model.__module__.partition(".")[0] in OURS:
            model.model_rebuild()
    arguments = importlib.import_module("client_sdk.cli.arguments")
    arguments.make_parser()


def _our_modules() -> list[str]:
    found = []
    for package, without in OURS.items():
        for path in sorted((ROOT / package).rglob("*.py")):
            names = path.relative_to(ROOT).with_suffix("").parts
            if not without & set(names[1:]):
                found.append(".".join(names[:-1] if names[-1] == "__init__" else names))
    return found


def _serve(listener: socket.socket) -> tuple[dict, list[int]]:
    """Fork for each request, and say how each fork has ended. Returns in a fork."""
    choose = selectors.DefaultSelector()
    choose.register(0, selectors.EVENT_READ)
    choose.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in choose.select():
            if key.fd == 0:
                os._exit(0)
            if key.fileobj is not listener:
                choose.unregister(key.fd)
                os.close(key.fd)
                pid, connection = key.data
                _, status = os.waitpid(pid, 0)
                with suppress(OSError), connection:  # nobody may wait for it any more
                    connection.send(str(status).encode())
                continue
            connection, _ = listener.accept()
            data, files, *_ = socket.recv_fds(connection, LARGEST, 64)
            pid = os.fork()
            if not pid:
                for opened in (*_opened_by(choose), connection, listener, choose):
                    opened.close()
                return json.loads(data), files
            for file in files:
                os.close(file)
            connection.send(str(pid).encode())
            choose.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))


def _opened_by(choose: selectors.BaseSelector) -> list[socket.socket]:
    """The sockets to those who wait for other forks."""
    return [key.data[1] for key in choose.get_map().values() if key.data]


def _become(request: dict, files: list[int], base: list[str]) -> None:
    """Take over the request's signals, files, folder, environment and search path.

    The warm process has the signals of the test that started it, which may have blocked Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    if request["session"]:
        os.setsid()
    wanted = request["files"]
    above = max([*wanted, *files]) + 1
    for n, file in enumerate(files):
        os.dup2(file, above + n)
    for n, number in enumerate(wanted):
        os.dup2(above + n, number)
    _close_all_but(wanted)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _open_streams()
    given = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    program = Program(*request["program"])
    first = [] if program.safe or os.environ.get("PYTHONSAFEPATH") else [_first_folder(program)]
    sys.path[:] = [*first, *given, *base]
    sys.path_importer_cache.clear()
    _forget_ours()
    sys.argv = list(program.words) if program.kind != "-c" else ["-c", *program.words[1:]]
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    if "DRAW_PLOTS" not in os.environ:
        importlib.import_module("matplotlib.figure").Figure.savefig = _draw_a_dot


def _draw_a_dot(_figure: object, file: io.BytesIO, **_given: object) -> None:
    Image.new("RGB", (1, 1)).save(file, format="PNG")


def _open_streams() -> None:
    """Make sys.stdin, stdout and stderr of these files, as the interpreter makes them."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for name, number, mode in (("stdin", 0, "rb"), ("stdout", 1, "wb"), ("stderr", 2, "wb")):
        before = getattr(sys, name)
        written = mode == "wb"
        opened = io.TextIOWrapper(
            open(number, mode, buffering=0 if unbuffered and written else -1, closefd=False),  # noqa: SIM115
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=name == "stderr" or os.isatty(number),
            write_through=unbuffered and written,
        )
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)


def _forget_ours() -> None:
    """Forget our packages where the search path leads to others, such as a changed copy."""
    for package in OURS:
        spec = PathFinder.find_spec(package, sys.path)
        if spec and spec.origin != sys.modules[package].__spec__.origin:
            break
    else:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]


def _first_folder(program: Program) -> str:
    if program.kind == "-c":
        return ""
    return os.getcwd() if program.kind else str(Path(program.words[0]).resolve().parent)  # noqa: PTH109


def _close_all_but(numbers: list[int]) -> None:
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number not in numbers:
            with suppress(OSError):
                os.close(number)


def _code_of(program: Program) -> int:
    """Run it as `python` would. Whatever it raises beside SystemExit ends the process as there."""
    found = types.ModuleType("__main__")
    found.__builtins__ = __builtins__
    sys.modules["__main__"] = found
    try:
        if program.kind == "-m":
            runpy._run_module_as_main(program.words[0])
        elif program.kind == "-c":
            exec(program.words[0], vars(found))
        else:
            found.__file__ = program.words[0]
            exec(compile(Path(found.__file__).read_bytes(), found.__file__, "exec"), vars(found))
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        return end.code or 0
    return 0


def _end_with(code: int) -> None:
    """End in order, but for the objects of all the libraries, which cost a third of a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)  # the interpreter tries again, and has a code of its own for it
    os._exit(code)


class ForkedCoordinator(Popen):
    """As subprocess's, but the coordinator that a simulation starts is a fork."""

    def _execute_child(self, *given):
        program = program_of(given[0])
        if program and program.words[0] == "app.entry.server.embedded":
            super()._execute_child(*given)
        else:
            ANEW._execute_child(self, *given)


def _forked_process(path, arguments, passed, start=util.spawnv_passfds):
    """Of a fork: multiprocessing's fork server and uvicorn's workers are forks of the command.

    The command has one thread then.
    """
    code = arguments[arguments.index("-c") + 1]
    if not code.startswith(("from multiprocessing.forkserver ", "from multiprocessing.spawn ")):
        return start(path, arguments, passed)
    pid = os.fork()
    if pid:
        return pid
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _close_all_but([0, 1, 2, *map(int, passed)])
    sys.argv = ["-c", *arguments[arguments.index("-c") + 2 :]]
    atexit._clear()
    try:
        exec(code, {"__name__": "__main__"})
    except SystemExit as end:
        _end_with(end.code if isinstance(end.code, int) else end.code is not None)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    return _end_with(0)
