"""The id of the request that is being answered: in its answer, its log lines and its problem."""

from __future__ import annotations

import logging
from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class Stamp(logging.Filter):
    """Puts the request's id in front of what is logged while it is answered, at any floor."""

    def filter(self, record: logging.LogRecord) -> bool:
        found = request_id.get()
        if found is not None and not hasattr(record, "request_id"):
            record.request_id = found
            record.msg = f"request {found}: {record.msg}"
        return True


_stamp = Stamp()


def install() -> None:
    """Stamp the application's log lines. Doing it again changes nothing."""
    logging.getLogger("app").addFilter(_stamp)
