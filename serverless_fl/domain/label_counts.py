"""How many of a party's examples have each label: it shares that only if it says so.

The counts are shown and enter no model. They are bounded, and count no more examples than the party
has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from serverless_fl.domain.errors import BadEnrolment

MAX_LABELS, MAX_LABEL = 100, 60  # of a party, and characters of one
_CLASS = re.compile(r"class \d+")


def require_label_counts(
    counts: Mapping[str, int], examples: int, facts: Mapping[str, str]
) -> None:
    """Raise BadEnrolment for counts that a party with so many examples cannot have.

    `facts` are those that the parties agreed on: where they name classes, the labels are of them.
    """
    if (total := sum(counts.values())) > examples:
        raise BadEnrolment(
            f"The labels count {total} examples, but the client has {examples}.",
            code="too-many-examples",
        )
    classes = [fact for name, fact in facts.items() if _CLASS.fullmatch(name)]
    if any(len(name) > MAX_LABEL for name in classes):
        return  # the label of a long name is shortened
    if classes and (unknown := sorted(counts.keys() - set(classes))):
        raise BadEnrolment(
            f"The experiment has no class {unknown[0]!r}: its classes are {', '.join(classes)}.",
            code="labels-unknown",
        )
