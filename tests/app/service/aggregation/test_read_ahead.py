"""Parts that are fetched while others are read."""

import asyncio

from app.service.files.stored import AHEAD, fetch_ahead


async def test_parts_are_read_ahead_in_their_order_and_no_further():
    going, most, asked = 0, 0, []

    class Blobs:
        async def get(self, key):
            nonlocal going, most
            asked.append(key)
            going += 1
            most = max(most, going)
            await asyncio.sleep(0.001 * (7 - int(key)))  # the later ones are faster
            going -= 1
            return key.encode()

    keys = [str(n) for n in range(7)]
    assert [piece async for piece in fetch_ahead(Blobs(), keys)] == [key.encode() for key in keys]
    assert most == AHEAD + 1
    asked.clear()
    pieces = fetch_ahead(Blobs(), keys)
    assert await anext(pieces) == b"0"
    await pieces.aclose()
    assert len(asked) == AHEAD + 1
