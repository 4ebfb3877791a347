"""What the image installs: only what is pinned, by its hash, and all that the coordinator needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
REQUIREMENT = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)((?: ;[^\\\n]+)?)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M
)


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements():
    text = (ROOT / "docker" / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "    "))]
    found = REQUIREMENT.findall(text)
    assert len(found) == len(lines)  # each has a version and hashes
    return {
        canonical(name): (version, hashes.count("sha256:")) for name, version, _, hashes in found
    }


def test_each_is_the_version_that_the_tests_ran_with():
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    pinned = {canonical(name): version for name, version in pinned.items()}
    found = requirements()
    assert len(found) > 20
    assert {name: version for name, (version, _) in found.items()} == {
        name: pinned.get(name) for name in found
    }


def test_all_that_the_coordinator_needs_is_among_them():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = extras["dependencies"] + [
        item
        for extra in ("server", "aws", "oidc")
        for item in extras["optional-dependencies"][extra]
    ]
    names = {canonical(re.match(r"[A-Za-z0-9._-]+", item)[0]) for item in wanted}
    assert names <= set(requirements())
    assert not {"torch", "matplotlib", "pytest"} & set(requirements())


def test_compiled_ones_have_files_for_more_than_one_platform():
    found = requirements()
    for name in ("numpy", "pydantic-core", "httptools", "uvloop", "pymongo", "awslambdaric"):
        assert found[name][1] >= 4, name


def test_the_image_installs_nothing_else_and_runs_nothing_of_it():
    (install,) = re.findall(r"pip install (.*)", DOCKERFILE.replace("\\\n", ""))
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    assert "--requirement requirements.txt" in install


def test_the_image_gets_the_files_that_it_copies():
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M):
        for path in source.split():
            assert (ROOT / path).exists(), path
            assert f"!{path.split('/')[0]}" in kept
