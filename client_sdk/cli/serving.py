"""A run's own coordinator and helper; the coordinator goes on serving its page, until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

from client_sdk.results.run_folder import RunFolder
from client_sdk.simulation.embedded import EmbeddedCoordinator, EmbeddedHelper


async def start_coordinator(
    stack: AsyncExitStack,
    folder: RunFolder,
    say: Callable[[str], None],
    helper: EmbeddedHelper | None = None,
) -> EmbeddedCoordinator:
    """The coordinator with its state in a run's folder, until `stack` ends it."""
    made = EmbeddedCoordinator(
        *(folder.path / "coordinator", folder.secrets.admin_key), on_restart=say, helper=helper
    )
    return await stack.enter_async_context(made)


async def start_helper(
    stack: AsyncExitStack, folder: RunFolder, say: Callable[[str], None]
) -> EmbeddedHelper:
    """The helper with its state in a run's folder, apart from that of the coordinator."""
    made = EmbeddedHelper(
        *(folder.path / "helper", folder.secrets.helper_admin_key), on_restart=say
    )
    return await stack.enter_async_context(made)


def has_helper(folder: RunFolder) -> bool:
    """Whether the run has a helper of its own."""
    return (folder.path / "helper").is_dir()


def page_of(url: str, experiment: str) -> str:
    """The address of an experiment's page, for a browser."""
    return f"{url}/#/experiments/{quote(experiment)}"


def about_key(folder: Path) -> str:
    """Where the page's key is. The key itself is not printed: a log may keep what is."""
    return (
        "The page asks for a key before it changes anything or shows a client's key: "
        f"admin_key in {folder / 'run.json'}. Ctrl-C ends the coordinator."
    )


async def until_interrupted() -> None:
    """Wait for Ctrl-C, which is no error here. `interrupts.cancelling` must be entered."""
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        task.uncancel()
