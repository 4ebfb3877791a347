"""The secret that FL_SECRET_ID names: a container reads it at its start, and again and again.

The tick of every minute keeps a container warm for days. If the container read the secret only
once, it would go on with a leaked key, or with a database that has moved.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from app.config import Settings
from app.telemetry.logs import WARNING, log_event

FRESH_SECONDS = 120.0  # the container reads the secret again after so long in any case
LEAST_SECONDS = 1.0  # between two urgent readings, because any stranger can cause a 401
FAILED_SECONDS = 60.0  # the pause after a failed reading
OF_THE_SECRET = (
    *("MONGODB_URL", "FL_ADMIN_KEY", "FL_ADMIN_KEY_PREVIOUS"),
    *("FL_KEYS", "FL_WEBHOOK_URLS", "FL_WEBHOOK_SECRET", "FL_HELPER_KEY", "FL_HELPER_PINS"),
)


class WatchedSettings:
    """Settings with a secret; `read` reads both again.

    The constructor raises the errors of `read`. If a later reading fails, the settings stay.
    """

    def __init__(
        self, read: Callable[[], Settings], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._read = read
        self._clock = clock  # the wall clock; other clocks may stand still in a frozen container
        self.settings = read()
        self._due = clock() + FRESH_SECONDS
        self._asked_at = clock()

    def read_again(self, *, urgent: bool = False) -> None:
        """Read the secret again if it is time to, or if `urgent`: it may have changed."""
        now = self._clock()
        wanted = urgent and self.settings.secret_id and now - self._asked_at >= LEAST_SECONDS
        if not self.settings.secret_id or not (wanted or now >= self._due):
            return
        try:
            found = self._read()
        except RuntimeError as error:
            log_event("secret not read again", WARNING, cause=str(error))
            self._due = self._asked_at = self._clock() + FAILED_SECONDS
            return
        self.settings = found
        self._due, self._asked_at = self._clock() + FRESH_SECONDS, self._clock()


def secrets_of(settings: Settings) -> tuple[object, ...]:
    """Give the settings that a secret may change."""
    keys = settings.admin_key, settings.admin_key_previous, settings.keys
    webhooks = settings.webhook_urls, settings.webhook_secret
    return settings.mongodb_url, *keys, *webhooks, settings.helper_key, settings.helper_pins
