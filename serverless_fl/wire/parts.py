"""Bodies about the parts of a file on its way in: announced, then brought."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serverless_fl.wire.bounds import Few, PartNumber, Url
from serverless_fl.wire.schema import Answer, Body, Sha256

MAX_ANNOUNCED = 256  # parts in one call: signed URLs are long, and answers are limited too


class PartAnnouncement(Body):
    """A part that is about to be uploaded."""

    number: PartNumber
    sha256: Sha256
    size: int = Field(ge=1, examples=[87904], description="Bytes")


class PartAnnouncements(Body):
    parts: list[PartAnnouncement] = Field(min_length=1, max_length=MAX_ANNOUNCED)


class SignedUpload(Answer):
    """A PUT of the part's bytes to `url`, with these headers and no others of ours."""

    url: Url = Field(examples=["https://bucket.s3.amazonaws.com/uploads/...?X-Amz-Signature=..."])
    headers: Annotated[dict[str, str], Few]
    seconds: int = Field(ge=0, description="For so long the URL is good", examples=[900])


class PartPlan(Answer):
    """What to do with a part: nothing where it is stored, else `upload`, else PUT it here."""

    number: PartNumber
    stored: bool
    upload: SignedUpload | None = None
