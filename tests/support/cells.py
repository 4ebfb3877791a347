"""Runs code as a notebook does: cell by cell, in one namespace, with a running event loop."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from typing import Any


async def run_cells(cells: Sequence[str], names: dict[str, Any] | None = None) -> list[Any]:
    """Run the cells in order; gives the value of each one's last expression, else None."""
    namespace: dict[str, Any] = {"__name__": "__main__", **(names or {})}
    values = []
    for number, source in enumerate(cells):
        tree = ast.parse(source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        await _run(tree, "exec", number, namespace)
        value = None
        if last is not None:
            value = await _run(ast.Expression(last.value), "eval", number, namespace)
        values.append(value)
    return values


async def _run(tree: Any, mode: str, number: int, namespace: dict[str, Any]) -> Any:
    code = compile(tree, f"<cell {number}>", mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    found = eval(code, namespace)
    return await found if inspect.iscoroutine(found) else found
