"""Bodies about the parts of an upload."""

from __future__ import annotations

from app.service.coordinator import PartPlan
from serverless_fl.domain.records import Part
from serverless_fl.wire import parts


def parts_of(body: parts.PartAnnouncements) -> list[Part]:
    """The parts that a client is about to upload."""
    return [Part(number=part.number, sha256=part.sha256, size=part.size) for part in body.parts]


def plan_body(plan: PartPlan) -> parts.PartPlan:
    """What the client has to do with a part."""
    upload = plan.upload
    return parts.PartPlan(
        number=plan.number,
        stored=plan.stored,
        upload=parts.SignedUpload(
            url=upload.url, headers=dict(upload.headers), seconds=upload.seconds
        )
        if upload
        else None,
    )
