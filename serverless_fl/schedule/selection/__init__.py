"""Selections: which clients a cohort takes. One a file, and one line here."""

from __future__ import annotations

from serverless_fl.schedule.selection.selection import Draw, Known, Reads, Selection, Turn
from serverless_fl.schedule.selection.uniform import Uniform

__all__ = ["SELECTIONS", "Draw", "Known", "Reads", "Selection", "Turn"]

SELECTIONS: dict[str, Selection] = {"uniform": Uniform()}
