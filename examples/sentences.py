"""Sentences of notes that a grammar makes, so that the examples of text need no download."""

from __future__ import annotations

import numpy as np

DEPARTMENTS = {
    "cardiology": ["chest pain", "palpitations", "a murmur", "swollen ankles", "dizziness"],
    "orthopaedics": [
        "a swollen knee",
        "back pain",
        "a fracture",
        "a stiff shoulder",
        "swollen ankles",
    ],
    "neurology": ["a headache", "numb fingers", "a tremor", "dizziness", "back pain"],
    "dermatology": ["a rash", "itching", "dry skin", "a mole", "numb fingers"],
}
URGENT = ["suddenly", "severe", "getting worse quickly", "since an hour", "cannot sleep"]
ROUTINE = ["slowly", "mild", "unchanged", "for many years", "after sports"]
LENGTH = 16  # words of a sentence, padded


def vocabulary() -> list[str]:
    """All words; 0 is the padding, 1 a word that is not known."""
    phrases = [p for found in DEPARTMENTS.values() for p in found] + URGENT + ROUTINE
    words = {
        word for phrase in [*phrases, "the patient reports and it is"] for word in phrase.split()
    }
    return ["", "?", *sorted(words)]


def notes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words [count, LENGTH], the department [count] and urgency [count] of so many notes.

    Some complaints belong to two departments, and one note in twenty has another's complaint.
    """
    draws, numbers = np.random.default_rng(seed), {w: n for n, w in enumerate(vocabulary())}
    words = np.zeros((count, LENGTH), np.int64)
    departments = draws.integers(len(DEPARTMENTS), size=count)
    urgent = draws.integers(2, size=count)
    complaints = list(DEPARTMENTS.values())
    for row, department, is_urgent in zip(words, departments, urgent, strict=True):
        seen = draws.integers(len(complaints)) if draws.random() < 0.05 else department
        first, second = draws.choice(complaints[seen], 2, replace=False)
        how = draws.choice(URGENT if is_urgent else ROUTINE)
        text = f"the patient reports {first} and {second} it is {how}".split()
        row[: len(text)] = [numbers[word] for word in text]
    return words, departments, urgent
