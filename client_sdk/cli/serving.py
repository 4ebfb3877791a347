"""A run's own coordinator that goes on serving its page, until Ctrl-C."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote


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
