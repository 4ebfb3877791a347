"""Spans by hand: which values of which tensor go with which part of an upload."""

import numpy as np
import pytest

from serverless_fl.weights import spans
from serverless_fl.weights.header import Layout, TensorSpec
from serverless_fl.weights.spans import Piece

WIDE = TensorSpec("wide", "F32", (3,), 0, 12)
NARROW = TensorSpec("narrow", "U8", (5,), 12, 17)


def layout(header_bytes, *tensors):
    return Layout(bytes(header_bytes), tensors, {})


def test_a_span_ends_where_a_part_of_the_upload_does():
    # Parts of 8 bytes end 6, 14 and 22 bytes behind a header of 10.
    assert spans.cut(layout(10, WIDE, NARROW), 8) == [
        (Piece(WIDE, 0, 1),),  # the next value lies across the end
        (Piece(WIDE, 1, 3), Piece(NARROW, 0, 2)),
        (Piece(NARROW, 2, 5),),
    ]


@pytest.mark.parametrize(
    ("header_bytes", "first"),
    [(8, 2), (12, 1), (13, 0), (15, 0), (16, 2), (20, 1)],  # whole values in the part it ends in
)
def test_the_header_takes_the_place_of_values_in_the_part_that_it_ends_in(header_bytes, first):
    found = spans.cut(layout(header_bytes, WIDE), 8)
    assert found[0] == ((Piece(WIDE, 0, first),) if first else ())
    assert [piece for span in found for piece in span][-1].last == 3


def test_a_file_that_fits_into_one_part_is_one_span_and_so_is_one_without_values():
    whole = layout(10, WIDE, NARROW)
    assert spans.cut(whole, 27) == [spans.whole(whole)]  # exactly
    assert len(spans.cut(whole, 26)) == 2
    empty = TensorSpec("empty", "F32", (0,), 0, 0)
    assert spans.cut(layout(10, empty), 8) == [()]
    assert spans.cut(layout(10), 8) == [()]


@pytest.mark.parametrize("part_bytes", [1, 3, 8, 9, 64])
def test_each_value_is_in_one_span_in_the_order_of_the_file(part_bytes):
    whole = layout(10, WIDE, NARROW)
    pieces = [piece for span in spans.cut(whole, part_bytes) for piece in span]
    found = [(p.tensor.name, n) for p in pieces for n in range(p.first, p.last)]
    assert found == [("wide", n) for n in range(3)] + [("narrow", n) for n in range(5)]


def test_where_a_piece_lies_and_how_large_it_is():
    piece = Piece(TensorSpec("wide", "F32", (3,), 5, 17), 1, 3)
    assert (piece.start, piece.size) == (9, 8)
    moved = piece.of(TensorSpec("wide", "F16", (3,), 100, 106))
    assert (moved.first, moved.last, moved.start, moved.size) == (1, 3, 102, 4)
    span = (piece, Piece(NARROW, 0, 4))
    assert (spans.elements(span), spans.size(span)) == (6, 12)
    values = np.arange(6)
    assert {n: list(v) for n, v in spans.by_tensor(span, values).items()} == {
        "wide": [0, 1],
        "narrow": [2, 3, 4, 5],
    }


def test_the_same_tensors_in_other_places_are_another_order():
    def order(*tensors):
        return layout(10, *tensors)

    mine = order(WIDE, NARROW)
    assert mine.same_order(Layout(bytes(99), (WIDE, NARROW), {"by": "somebody"}))
    swapped = order(TensorSpec("narrow", "U8", (5,), 0, 5), TensorSpec("wide", "F32", (3,), 5, 17))
    assert not mine.same_order(swapped)
    # With ends alone, or names alone, these would be alike.
    assert not mine.same_order(order(TensorSpec("other", "F32", (3,), 0, 12), NARROW))
    shorter = TensorSpec("wide", "F32", (2,), 0, 8)
    assert not mine.same_order(order(shorter, TensorSpec("narrow", "U8", (9,), 8, 17)))
