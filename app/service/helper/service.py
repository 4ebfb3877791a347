"""The use cases of a coordinator in the role `helper`: it opens sums for another coordinator."""

from __future__ import annotations

from app.service.clients.credentials import AdminKeys
from app.service.context import Context
from app.service.helper.helping import Helping
from app.service.reading.health import Health

__all__ = ["HelperService"]


class HelperService:
    """Everything a helper does, over one context. It takes the place of a `Coordinator`.

    `admin_key` is the key with which the other coordinator calls.
    """

    def __init__(
        self,
        context: Context,
        helping: Helping,
        admin_key: str,
        previous_admin_key: str | None = None,
    ) -> None:
        self.context = context
        self.helping = helping
        self.admin_keys = AdminKeys(admin_key, previous_admin_key)
        self.health = Health(context)

    async def tick(self) -> list[str]:
        """A helper has nothing to advance."""
        return []

    async def close(self) -> None:
        """Nothing of a helper outlives its requests."""
