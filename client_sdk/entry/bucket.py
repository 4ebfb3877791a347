"""Copies a party's data from its own S3 bucket to the disk of its function."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

SCHEME = "s3://"
_copied: dict[Path, str] = {}  # ETags of this container's files


def is_place(word: str) -> bool:
    """Whether a word of the command line is an object or a folder of a bucket."""
    return word.startswith(SCHEME)


def copy(place: str, folder: Path) -> str:
    """Copy `s3://BUCKET/KEY`, or all below `s3://BUCKET/FOLDER/`; gives the place on this disk.

    An object that has not changed since is not copied again, and a file whose object is gone goes,
    too. Raises RuntimeError where S3 refuses, does not answer, or has nothing there.
    """
    # Imported here: it takes a quarter of a second, and parties elsewhere do not need it.
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    name, _, key = place.removeprefix(SCHEME).partition("/")
    target = folder / hashlib.sha256(place.encode()).hexdigest()[:16]
    try:
        client = boto3.client("s3")
        found = _objects(client, name, key)
        if not found:
            raise RuntimeError(f"There is nothing at {place}.")
        wanted = {_below(target, key, each): (each, tag) for each, tag in found.items()}
        for path in [path for path in target.rglob("*") if path.is_file() and path not in wanted]:
            path.unlink()
        for path, (each, tag) in wanted.items():
            if _copied.get(path) != tag or not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(name, each, str(path))
                _copied[path] = tag
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "no code")
        raise RuntimeError(f"{place} cannot be read: S3 answers {code}.") from None
    except BotoCoreError as error:
        raise RuntimeError(
            f"{place} cannot be read: S3 does not answer ({type(error).__name__})."
        ) from None
    return str(target if key.endswith("/") or not key else next(iter(wanted)))


def _objects(client: Any, name: str, key: str) -> dict[str, str]:
    """The ETags of an object, or of all below a folder, by key."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=key)
    found = {each["Key"]: each["ETag"] for page in pages for each in page.get("Contents", ())}
    is_folder = not key or key.endswith("/")
    return {
        each: tag
        for each, tag in found.items()
        if not each.endswith("/") and (is_folder or each == key)
    }


def _below(target: Path, key: str, each: str) -> Path:
    """Where the object goes. Raises RuntimeError for a key that leads out of the folder."""
    parts = PurePosixPath(each.removeprefix(key) or PurePosixPath(each).name).parts
    if ".." in parts or PurePosixPath(*parts).is_absolute():
        raise RuntimeError(f"The object {each} has a name that leads out of its folder.")
    return target.joinpath(*parts)
