"""Reads many documents of one kind, page by page."""

from __future__ import annotations

from app.store.port import Document, Documents

PAGE = 1000


async def scan_all(documents: Documents, kind: str, prefix: str, after: str = "") -> list[Document]:
    """All documents whose keys start with `prefix` and come after `after`."""
    found: list[Document] = []
    while page := await documents.scan(
        kind, prefix, after=found[-1].key if found else after, limit=PAGE
    ):
        found += page
    return found


async def scan_to(
    documents: Documents, kind: str, prefix: str, after: str, last: str, page_size: int
) -> list[Document]:
    """As `scan_all`, up to the key `last`; the last page may hold some documents behind it."""
    found: list[Document] = []
    while page := await documents.scan(kind, prefix, after=after, limit=page_size):
        found += page
        after = page[-1].key
        if after >= last or len(page) < page_size:
            break
    return found
