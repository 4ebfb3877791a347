"""A server that holds answers back, as a process."""

import os
import signal
import threading

import httpx

from tests.support.plain_http import bearer, create, enrol
from tests.support.processes import KEY, Server, wait_for


def test_a_server_that_holds_answers_still_stops_and_answers_them(tmp_path):
    answers = []
    with Server(FL_DATA_DIR=str(tmp_path), FL_LIVE="false") as server:
        headers = bearer(KEY)
        with httpx.Client(base_url=f"{server.url}/v1", headers=headers, trust_env=False) as http:
            experiment, key = create(http, "held")
            token = enrol(http, experiment, key, "one")["token"]

        def poll():
            url = f"{server.url}/v1/experiments/{experiment}/status?wait=20&round=0"
            headers = bearer(token)
            answers.append(httpx.get(url, headers=headers, trust_env=False, timeout=30))

        thread = threading.Thread(target=poll)
        thread.start()
        wait_for(
            lambda: "fl_held_polls 1" in httpx.get(f"{server.url}/metrics", trust_env=False).text
        )
        os.killpg(server.process.pid, signal.SIGTERM)
        _, errors = server.process.communicate(timeout=60)
        assert "Traceback" not in errors
        thread.join(60)
    (answer,) = answers
    assert answer.json()["action"] == "wait"
    assert answer.json()["hold"] == 0.0  # told by the end of the server, not of the poll's time
