"""schemathesis over the document that the running application gives of itself.

Nothing may answer 5xx, nor with a status, a body or a content type that the document lacks.
`make soak` runs it with more examples.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.plain_http import running_experiment
from tests.support.processes import KEY, Server
from tests.support.sample import sample

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance,unsupported_method,"
    "negative_data_rejection"
)


def document_of(server: Server, experiment: str) -> dict:
    """The application's own document, with an experiment that there is for every id."""
    document = httpx.get(f"{server.url}/openapi.json", trust_env=False, timeout=60).json()
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "experiment_id":
                    parameter["schema"] = {"type": "string", "enum": [experiment]}
                    parameter.pop("example", None)
                    parameter.pop("examples", None)
    # A stopped experiment would answer all the rest with 409; a stream of events never ends.
    for path in [p for p in document["paths"] if p.endswith(("/stop", "/events"))]:
        del document["paths"][path]
    return document


@pytest.mark.parametrize(
    ("caller", "phases"),
    sample(
        [("nobody", "fuzzing"), ("admin", "coverage,fuzzing"), ("client", "coverage,fuzzing")],
        [("nobody", "fuzzing"), ("admin", "coverage"), ("client", "fuzzing")],
    ),
)
def test_every_answer_is_declared(tmp_path, caller, phases):
    with Server(
        FL_DATA_DIR=str(tmp_path / "data"), FL_RATE_PER_SECOND="0", FL_HOLD_SECONDS="0.1"
    ) as server:
        experiment, tokens = running_experiment(server.url)
        document = tmp_path / "openapi.json"
        document.write_text(json.dumps(document_of(server, experiment)))
        key = {"nobody": None, "admin": KEY, "client": tokens[0]}[caller]
        done = subprocess.run(
            [
                *(str(Path(sys.executable).parent / "st"), "run", str(document)),
                *("--url", server.url, "--checks", CHECKS, "--no-color", "--seed", "1"),
                *("--max-examples", os.environ.get("SCHEMA_EXAMPLES", "4")),
                # Nor is the experiment deleted: all the rest would be 404.
                *("--exclude-method", "DELETE"),
                *("--phases", phases, "--generation-database", "none"),
                *(("-H", f"Authorization: Bearer {key}") if key else ()),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=1500,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        cases = next(line for line in done.stdout.splitlines() if " generated, " in line)
        print(f"figure: {caller}:{cases}")
