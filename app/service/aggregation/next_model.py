"""The next model version in the making: its model, and the files of its strategy's state.

Both are stored span by span. The parts of the state come before the part of the model, so a span
whose parts are all there is complete, and a call that finds one missing makes the span again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import numpy as np

from app.service.files.own_files import NewFile
from app.service.files.readers import FileReader, Reader, Values
from app.service.records import keys
from app.store.port import Blobs
from serverless_fl.aggregation.stepping import Stepped, has_step, step_span
from serverless_fl.aggregation.strategy import RoundFacts, Strategy
from serverless_fl.domain.records import Blob, ModelVersion
from serverless_fl.privacy import Mechanism
from serverless_fl.privacy.noise import Noise
from serverless_fl.weights import codec, spans
from serverless_fl.weights.encodings import state_layout
from serverless_fl.weights.header import Layout


class NextModel:
    """The files of the version that a round makes, under `prefix`.

    `layout` is that of the new model. `base`: the model of the version before, whose state is the
    state before; `start` reads the weights that the clients trained from. `mechanism` may wrap the
    strategy's step, with `noise`.
    """

    def __init__(
        self,
        blobs: Blobs,
        prefix: str,
        layout: Layout,
        cut: list[spans.Span],
        strategy: Strategy,
        mechanism: Mechanism,
        base: ModelVersion,
        start: Reader,
        noise: Noise | None = None,
    ) -> None:
        self._layout, self._spans, self._strategy = layout, cut, strategy
        self._start, self._mechanism, self._noise = start, mechanism, noise
        self._steps = has_step(strategy) or mechanism.wraps_step
        self._model = NewFile(blobs, prefix)
        self._state = {
            name: NewFile(blobs, keys.state_blob(prefix, name)) for name in strategy.state
        }
        self._state_layout = state_layout(layout)
        self._before = {
            name: FileReader(blobs, blob, self._state_layout)
            for name, blob in base.state.items()
            if name in self._state
        }

    @property
    def _files(self) -> list[NewFile]:
        return [*self._state.values(), self._model]

    async def find_parts(self) -> None:
        """List the parts that other processes have stored."""
        for file in self._files:
            await file.find_parts()

    def has(self, span: int) -> bool:
        """Whether a span is complete."""
        return all(file.has(span) for file in self._files)

    async def put(self, number: int, reduced: Mapping[str, np.ndarray], facts: RoundFacts) -> None:
        """Take a step with the reduced values of a span, float64, and store what it gives.

        `reduced` as of `Strategy.step`; its weights are overwritten. Raises Gone or DigestMismatch
        for the base model and its state, and StrategyFault.
        """
        span = self._spans[number]
        stepped = Stepped(reduced["weights"], {})
        if self._steps:
            base = await self._start.read(span)
            state = await self._state_before(span)
            wrap = partial(self._mechanism.wrap_step, noise=self._noise)
            step = partial(step_span, wrap=wrap)
            stepped = await asyncio.to_thread(
                step, self._strategy, span, base, reduced, state, facts
            )
        for name, values in stepped.state.items():
            data = await asyncio.to_thread(_encode, self._state_layout, number, span, values)
            await self._state[name].put(number, data)
        data = await asyncio.to_thread(_encode, self._layout, number, span, stepped.weights)
        await self._model.put(number, data)

    async def _state_before(self, span: spans.Span) -> Mapping[str, Values]:
        """The state's values of a span, by names; those that no version has yet are missing."""
        return {name: await reader.read(span) for name, reader in self._before.items()}

    @property
    def undigested(self) -> int:
        """As of `NewFile`."""
        return sum(file.undigested for file in self._files)

    async def finish(self) -> tuple[Blob, dict[str, Blob]]:
        """Check the files, whose parts are all stored: the model and the state. Raises Damaged."""
        state = {name: await file.finish() for name, file in self._state.items()}
        return await self._model.finish(), state


def _encode(layout: Layout, number: int, span: spans.Span, values: np.ndarray) -> bytes:
    """A part of a file: the values of a span in the dtypes of `layout`; part 0 has the header."""
    tensors = {tensor.name: tensor for tensor in layout.tensors}
    own = tuple(piece.of(tensors[piece.tensor.name]) for piece in span)
    rounded = codec.round_integers(own, spans.by_tensor(own, values))
    return b"".join([b"" if number else layout.header, codec.pack(own, rounded)])
