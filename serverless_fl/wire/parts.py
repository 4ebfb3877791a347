"""Bodies about the parts of an upload: a client announces parts, then uploads them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serverless_fl.domain import records
from serverless_fl.wire.base import Answer, Body, Sha256
from serverless_fl.wire.bounds import Few, PartNumber, Url

MAX_ANNOUNCED = records.MAX_ANNOUNCED


class PartAnnouncement(Body):
    """A part that the client is about to upload."""

    number: PartNumber
    sha256: Sha256
    size: int = Field(ge=1, examples=[87904], description="Bytes")


class PartAnnouncements(Body):
    parts: list[PartAnnouncement] = Field(min_length=1, max_length=MAX_ANNOUNCED)


class SignedUpload(Answer):
    """PUT the part's bytes to `url` with these headers, and without a key or token."""

    url: Url = Field(examples=["https://bucket.s3.amazonaws.com/uploads/...?X-Amz-Signature=..."])
    headers: Annotated[dict[str, str], Few]
    seconds: int = Field(ge=0, description="The URL is valid for so long", examples=[900])


class PartPlan(Answer):
    """The plan for a part: nothing if `stored`, else `upload`, or a PUT to the coordinator."""

    number: PartNumber
    stored: bool
    upload: SignedUpload | None = None
