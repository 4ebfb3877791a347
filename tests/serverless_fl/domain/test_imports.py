"""The domain imports the standard library and itself, nothing else."""

import ast
import sys
from pathlib import Path

DOMAIN = Path(__file__).parents[3] / "serverless_fl" / "domain"


def test_the_domain_needs_the_standard_library_only():
    files = list(DOMAIN.glob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                names = [str(node.module)]
            for name in names:
                own = name.startswith("serverless_fl.domain.")
                assert own or name.partition(".")[0] in sys.stdlib_module_names, (file, name)
