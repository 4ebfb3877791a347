"""What mutmut has made and found, read from the files that it leaves in `mutants/`."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mutmut.__main__ import copy_also_copy_files, copy_src_dir, create_mutants
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

MADE = Path("mutants")


@dataclass(frozen=True)
class Mutant:
    """One change. `name` is mutmut's, which counts; the other changes of a file alter it."""

    name: str
    path: str
    exit_code: int | None

    @property
    def status(self) -> str:
        return status_by_exit_code[self.exit_code]

    @property
    def noticed(self) -> bool:
        return self.status in ("killed", "timeout", "segfault")

    @property
    def unnoticed(self) -> bool:
        return self.status in ("survived", "no tests")

    @property
    def function(self) -> str:
        """`name` of a function or `Class.name`, without its module: modules move."""
        mangled = self.name.rpartition(".")[2].partition("__mutmut_")[0]
        return mangled[2:].replace("ǁ", ".")

    @cached_property
    def diff(self) -> str:
        return get_diff_for_mutant(self.name, path=self.path)

    @property
    def change(self) -> str:
        """The lines that differ, marked by - and +, each without its indentation."""
        lines = self.diff.splitlines()[2:]
        return "\n".join(f"{x[0]} {x[1:].strip()}" for x in lines if x[0] in "-+")


def make(children: int) -> None:
    """Write every mutant into `mutants/`; files that have not changed since keep theirs."""
    MADE.mkdir(exist_ok=True)
    set_mutant_under_test("mutant_generation")
    copy_src_dir()
    copy_also_copy_files()
    create_mutants(children)


def found() -> list[Mutant]:
    """Every mutant with its result, in the order of their names."""
    all_of_them = []
    for path in sorted(walk_mutatable_files()):
        meta = MADE / f"{path}.meta"
        if meta.exists():
            results = json.loads(meta.read_bytes())["exit_code_by_key"]
            all_of_them += [Mutant(name, str(path), code) for name, code in results.items()]
    return all_of_them


def equivalents(file: Path) -> set[tuple[str, str]]:
    """The changes that were judged to change nothing: function and change. Each has a reason."""
    listed = tomllib.loads(file.read_text(encoding="utf-8")).get("equivalent", [])
    assert all(x["reason"] for x in listed), "a judgement has no reason"
    return {(x["function"], x["change"].strip()) for x in listed}


def touched_since(ref: str) -> set[str]:
    """What begins the names of the mutants of each function with lines that differ from `ref`."""
    diff = subprocess.run(
        ["git", "diff", "-U0", ref, "--", "*.py"], capture_output=True, text=True, check=True
    ).stdout
    lines: dict[str, set[int]] = {}
    path = ""
    for line in diff.splitlines():
        if line.startswith("+++ "):
            path = line.removeprefix("+++ b/")
        elif hunk := re.match(r"@@ \S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            lines.setdefault(path, set()).update(range(first, first + max(count, 1)))
    return {
        f"{path.removesuffix('.py').replace('/', '.')}.{name}__mutmut_"
        for path in lines
        if Path(path).exists()
        for name, first, last in _functions(Path(path))
        if lines[path] & set(range(first, last + 1))
    }


def _functions(path: Path) -> list[tuple[str, int, int]]:
    """The functions of a file, by mutmut's names for them, and their first and last lines."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.append((f"x_{node.name}", node.lineno, node.end_lineno or 0))
        elif isinstance(node, ast.ClassDef):
            names += [
                (f"xǁ{node.name}ǁ{x.name}", x.lineno, x.end_lineno or 0)
                for x in node.body
                if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
    return names
