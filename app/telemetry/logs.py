"""Log lines: JSON for programs, a short form for people. The only place that sets up `logging`.

A line names an event and its fields: `log_event("round closed", experiment=...)`. It also carries
the ids of the request that it is written in (`app.telemetry.ids`).
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TextIO

from app.telemetry import ids

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

log = logging.getLogger("app")


class Event:
    """The message of a log record: an event and its fields. Any handler can print it."""

    __slots__ = ("event", "fields")

    def __init__(self, event: str, fields: dict[str, Any]) -> None:
        present = {name: value for name, value in fields.items() if value is not None}
        self.event, self.fields = event, _known() | present

    def __str__(self) -> str:
        return _spelt(self.event, self.fields)


def log_event(
    event: str, level: int = INFO, /, *, error: BaseException | None = None, **fields: Any
) -> None:
    """Write a log line: the event, its fields, the ids of the request, and the error's traceback.

    Fields are numbers, ids and codes, never a caller's text: it may be a secret.
    """
    if log.isEnabledFor(level):
        fault = None if error is None else (type(error), error, error.__traceback__)
        # `log.log` would look up the caller's file and line for every log line.
        log.handle(log.makeRecord(log.name, level, "", 0, Event(event, fields), (), fault))


_json = json.JSONEncoder(default=str).encode  # json.dumps would make an encoder for each line


def _known() -> dict[str, Any]:
    found = ids.current()
    return {} if found is None else found.known()


def _content(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Give the event and its fields; for a library's record, its text and the present ids."""
    if isinstance(record.msg, Event):
        return record.msg.event, record.msg.fields
    return record.getMessage(), _known()


@lru_cache(2)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _spelt(event: str, fields: dict[str, Any]) -> str:
    return " ".join([event, *(f"{name}={value}" for name, value in fields.items())])


class JsonFormatter(logging.Formatter):
    """One JSON object a line. JSON escapes line breaks in the fields."""

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _content(record)
        line = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": event,
            **fields,
        }
        if record.name != "app":
            line["logger"] = record.name
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _json(line)


class ConsoleFormatter(logging.Formatter):
    """For a terminal: `10:15:00 INFO round closed experiment=... round=3`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        text = f"{at} {record.levelname:7} {_printable(_spelt(*_content(record)))}"
        if record.exc_info:
            told = self.formatException(record.exc_info)
            text += "\n" + "\n".join(_printable(line) for line in told.split("\n"))
        return text


def _printable(text: str) -> str:
    """Escape control characters, so that no text ends its line or colours the next lines."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to the present stdout or stderr: the streams of the start may be closed by now."""

    def __init__(self, json_lines: bool) -> None:
        super().__init__(sys.stderr)
        self.json_lines = json_lines
        self.setFormatter(JsonFormatter() if json_lines else ConsoleFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout if self.json_lines else sys.stderr
        super().emit(record)


def configure(form: Format, level: Level, *, alone: bool = False) -> None:
    """Set up the logs of this process. A second call changes nothing.

    JSON lines go to stdout, the console form goes to stderr; `auto` takes the console form if
    stderr is a terminal. If another program has given the root logger a handler, this function adds
    none, unless `alone`: a serverless platform's runtime adds a handler that must go. The server's
    access log is switched off, because this application logs every request itself.
    """
    log.setLevel(level.upper())
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False  # without a handler the server does not format its line
    root = logging.getLogger()
    others = [handler for handler in root.handlers if not isinstance(handler, _Handler)]
    if others and not alone:
        return
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    # No log line names a thread or a process, so `logging` need not look them up for each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    json_lines = form == "json" or (form == "auto" and not sys.stderr.isatty())
    root.addHandler(_Handler(json_lines))
    if json_lines:  # the server's own log lines take the same form
        for name in ("uvicorn", "uvicorn.error"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
