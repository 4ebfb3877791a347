"""The tasks that are left where a strategy needs all updates' values of an element at once.

A call cannot hold a span of every update. So tasks stack a few updates at a time: they cut the rows
[updates, elements] of a span into slices, and store each slice as a part. This is done as groups
fill. When all updates are known, a task a slice reads that slice of all stacks, so it holds few
elements of many updates. It reduces them to one value an element, or adds their products to a Gram
matrix. All of this is a pure function of the updates and of the stored results, as in `plan`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from app.service.aggregation.plan import Group, digest_of
from serverless_fl.domain import provenance
from serverless_fl.domain.experiment import WEIGHTS, Config
from serverless_fl.domain.records import Update
from serverless_fl.domain.round import Round
from serverless_fl.privacy import mechanism_of
from serverless_fl.weights import spans

SPANS_IN_MEMORY = 8  # a task holds so many spans, of the cut's bytes, at once
PRODUCTS = 1 << 31  # twice those that one task adds to a Gram matrix: a few seconds
_NARROW = frozenset({"F32", "F16", "BF16", "I16", "I8", "U16", "U8", "BOOL"})  # fit into float32


@dataclass(frozen=True)
class Slicing:
    """How the rows of a span are stacked: so many updates a stack, so many elements a slice."""

    elements: int  # of the span
    dtype: str  # of the stored values
    per_stack: int
    length: int  # of a slice
    memory: int  # bytes

    @classmethod
    def of(cls, config: Config, round_: Round, span: spans.Span, most: int) -> Slicing:
        """A round has at most as many updates as its cohort, apart from those of earlier ones."""
        assert round_.cut is not None  # noqa: S101  (set before anything is aggregated)
        scaled = mechanism_of(config).needs_norm(config)
        exact = config.update_encoding == WEIGHTS and not scaled
        narrow = exact and all(piece.tensor.dtype in _NARROW for piece in span)
        width = 4 if narrow else 8
        elements, rows = spans.elements(span), len(round_.cohort)
        memory = SPANS_IN_MEMORY * round_.cut.span_bytes
        per_stack = max(1, min(most, memory // (max(1, elements) * width)))
        length = min(
            elements,
            memory // (rows * width),
            PRODUCTS // rows**2,
            round_.cut.span_bytes // (per_stack * width),
        )
        return cls(elements, f"<f{width}", per_stack, max(1, length), memory)

    @property
    def width(self) -> int:
        """Bytes of a stored value."""
        return int(self.dtype[2:])

    @property
    def cuts(self) -> list[slice]:
        """The elements of each slice. The first span may be empty, and then there are none."""
        places = range(0, self.elements, self.length)
        return [slice(start, min(start + self.length, self.elements)) for start in places]


@dataclass(frozen=True)
class Stack:
    """Stored values of some updates. Each part holds one slice of every update."""

    updates: tuple[Update, ...]
    digest: str


@dataclass(frozen=True)
class StackTask:
    """Store a stack of a span."""

    span: int
    stack: Stack
    slicing: Slicing

    @property
    def reads(self) -> int:
        """As `SumTask.reads`."""
        return len(self.stack.updates)


@dataclass(frozen=True)
class Rows:
    """All updates' values of some elements of a span: of a slice of all stacks, numbered `part`.

    If there are no stacks, the task reads the updates themselves, and `part` is 0.
    """

    span: int
    elements: slice
    part: int
    stacks: tuple[Stack, ...]
    updates: tuple[Update, ...]
    slicing: Slicing

    @property
    def reads(self) -> int:
        """As `SumTask.reads`: the stacks' slices hold as much as so many spans at most."""
        return max(len(self.stacks), SPANS_IN_MEMORY) if self.stacks else len(self.updates)


@dataclass(frozen=True)
class ReduceTask:
    """Reduce rows to one value an element; `result` as in `SumTask`."""

    rows: Rows
    result: str | None

    @property
    def span(self) -> int:
        return self.rows.span

    @property
    def reads(self) -> int:
        return self.rows.reads


@dataclass(frozen=True)
class JoinTask:
    """Make the span of the new model of the reduced slices, which have these digests."""

    span: int
    slices: tuple[str, ...]

    @property
    def reads(self) -> int:
        return 2  # float64 values


@dataclass(frozen=True)
class GramTask:
    """Add the products of rows to the Gram matrix so far, if there is one, and store the sum."""

    rows: Rows
    before: tuple[int, str] | None  # its span and its digest
    result: str

    @property
    def span(self) -> int:
        return self.rows.span

    @property
    def reads(self) -> int:
        return self.rows.reads + 1


@dataclass(frozen=True)
class ColumnPlan:
    """The updates of a round by groups, as in `Plan`, and how each span is sliced.

    `reduction` names what is computed of the columns: its settings, and of which updates.
    """

    groups: tuple[Group, ...]
    slicings: tuple[Slicing, ...]
    most: int
    reduction: str

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The rows, in their order."""
        return tuple(update for group in self.groups for update in group.updates)

    def is_direct(self, span: int) -> bool:
        """Whether one task holds the whole span of all updates, so that nothing is stacked."""
        slicing, count = self.slicings[span], len(self.updates)
        fits = count * slicing.elements * slicing.width <= slicing.memory
        return len(self.groups) == 1 and count <= self.most and fits

    def stack_tasks(self, span: int, stored: Collection[str]) -> Iterator[StackTask]:
        """The tasks left until all updates are stacked over a span; `stored` as in `Plan`."""
        for stack in self._stacks(span):
            if stack.digest not in stored:
                yield StackTask(span, stack, self.slicings[span])

    def model_tasks(
        self, span: int, stored: Collection[str]
    ) -> Iterator[StackTask | ReduceTask | JoinTask]:
        """The tasks left until a span of the new model is stored."""
        rows = self._rows(span)
        if rows and rows[0].stacks:
            yield from self.stack_tasks(span, stored)
        if len(rows) == 1:
            yield ReduceTask(rows[0], None)
            return
        results = tuple(self._digest(f"slice {self.reduction}", each) for each in rows)
        for each, result in zip(rows, results, strict=True):
            if result not in stored:
                yield ReduceTask(each, result)
        yield JoinTask(span, results)

    def gram_tasks(self, span: int, stored: Collection[str]) -> Iterator[StackTask | GramTask]:
        """The tasks left until the Gram matrix covers this span and those before it."""
        rows = self._rows(span)
        left = [(each, self._digest("gram", each)) for each in rows]
        if not left or left[-1][1] in stored:
            return
        if rows[0].stacks:
            yield from self.stack_tasks(span, stored)
        before = self.gram_through(span - 1)
        for each, result in left:
            if result not in stored:
                yield GramTask(each, before, result)
            before = (span, result)

    def gram_through(self, span: int) -> tuple[int, str] | None:
        """The span and the digest of the Gram matrix over this span and those before it.

        None if they have no elements.
        """
        for place in range(span, -1, -1):
            if rows := self._rows(place):
                return place, self._digest("gram", rows[-1])
        return None

    def _rows(self, span: int) -> list[Rows]:
        slicing = self.slicings[span]
        if self.is_direct(span) and slicing.elements:
            return [Rows(span, slice(0, slicing.elements), 0, (), self.updates, slicing)]
        stacks = self._stacks(span)
        return [
            Rows(span, elements, part, stacks, self.updates, slicing)
            for part, elements in enumerate(slicing.cuts)
        ]

    def _stacks(self, span: int) -> tuple[Stack, ...]:
        slicing, found = self.slicings[span], []
        for group in self.groups:
            for start in range(0, len(group.updates), slicing.per_stack):
                updates = group.updates[start : start + slicing.per_stack]
                digest = provenance.updates_digest(map(provenance.contribution, updates))
                form = f"stack {slicing.dtype} {slicing.length}"
                found.append(Stack(updates, digest_of(f"{form} {digest}")))
        return tuple(found)

    def _digest(self, what: str, rows: Rows) -> str:
        """Give the digest that names what is computed from `rows`."""
        place = f"{rows.elements.start} {rows.elements.stop}"
        return digest_of(f"{what} {place} {self._updates_digest}")

    @cached_property
    def _updates_digest(self) -> str:
        return provenance.updates_digest(map(provenance.contribution, self.updates))
