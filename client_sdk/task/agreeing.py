"""Compares a party's task with the task of the experiment that it joins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.own_data.site import bounded, facts_of_task
from client_sdk.task.task import Task, fingerprint, form_of
from serverless_fl.domain.agreement import Agreement
from serverless_fl.domain.task_name import FINGERPRINT
from serverless_fl.weights.header import Layout
from serverless_fl.wire.text import clean

_WORD = 80  # characters of each side's word


def facts_of(task: Task) -> dict[str, str]:
    """What a party says of its task when it enrols with data of its own."""
    return dict(bounded(Agreement({**facts_of_task(task), **task.terms()})).facts)


def require_same(task: Task, model: bytes, whose: str = "the experiment") -> None:
    """Raise DataError, with both sides' words, unless the model of `whose` is of this task.

    `model` is the file of an initial model, which may be a stranger's.
    """
    layout = weights_file.read_layout(model, f"{whose[:1].upper()}{whose[1:]}'s model")
    about = layout.metadata
    theirs = {"task": about.get("task", "none"), **_terms(about)}
    ours = {"task": task.name, **task.terms()}
    found = [*_differences(theirs, ours), *_of_form(task, layout)]
    if not found:
        there, here = ({FINGERPRINT: of} for of in (about.get(FINGERPRINT, ""), fingerprint(task)))
        found = _differences(there, here)
    if found:
        raise DataError(f"The task here is not {whose}'s: {_shown(found)}.")


def require_no_other(task: Task, model: bytes) -> None:
    """As `require_same`, but a model whose file has no fingerprint may be of any task.

    Earlier versions wrote none for pictures and tables, and other programs write none.
    """
    if FINGERPRINT in weights_file.read_layout(model, "The experiment's model").metadata:
        require_same(task, model)


def require_form(task: Task, model: bytes, whose: str) -> None:
    """Raise DataError, with both sides' words, unless a model's file has the task's tensors."""
    found = _of_form(task, weights_file.read_layout(model, whose))
    if found:
        raise DataError(f"The weights of {whose} are not those of {task.name}: {_shown(found)}.")


def _of_form(task: Task, layout: Layout) -> list[str]:
    there = {t.name: f"{t.dtype} {list(t.shape)}" for t in layout.tensors}
    here = {name: f"{kind} {list(shape)}" for name, (kind, shape) in form_of(task).items()}
    return _differences(there, here, "tensor ")


def _shown(found: Sequence[str]) -> str:
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return f"{'; '.join(found[:3])}{more}"


def _terms(about: Mapping[str, str]) -> dict[str, str]:
    """The terms in a model's file. Raises DataError."""
    try:
        terms = json.loads(about.get("terms", "{}"))
        return {str(name): str(value) for name, value in terms.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError("The experiment's model has terms that cannot be read.") from error


def _differences(there: Mapping[str, str], here: Mapping[str, str], what: str = "") -> list[str]:
    def word(side: Mapping[str, str], name: str) -> str:
        return clean(side[name], _WORD) if name in side else "nothing"

    return [
        f"{what}{clean(name, _WORD)} is {word(there, name)} there and {word(here, name)} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name)
    ]
