"""What an upload and a download have in common: files in parts, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from client_sdk.errors import BadAnswer
from serverless_fl.wire.bounds import MAX_PARTS

T = TypeVar("T")
PARALLEL_PARTS = 4
TRIES = 3  # of a whole transfer; the connection retries each of its requests besides


def require_few_parts(path: str, size: int, part_bytes: int) -> None:
    """Raise BadAnswer where a file would have more parts than any file may have."""
    if part_bytes < 1 or size > part_bytes * MAX_PARTS:
        raise BadAnswer(
            f"{path}: {size} bytes in parts of {part_bytes} would be more than {MAX_PARTS} parts."
        )


async def for_each_part(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """Do the work for each item, PARALLEL_PARTS at a time. The first error ends the others."""
    remaining = iter(items)

    async def run() -> None:
        for item in remaining:
            await work(item)

    tasks = [asyncio.create_task(run()) for _ in range(PARALLEL_PARTS)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
