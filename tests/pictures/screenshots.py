"""The pictures of the dashboard in docs/: `python -m tests.pictures.screenshots`.

A real run in its eighth round.
"""

from __future__ import annotations

import subprocess
import tempfile
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image

from tests.support.browser import Watched, chromium
from tests.support.processes import KEY, MODULE, Server, environment, wait_for

DOCS = Path(__file__).parents[2] / "docs"
SHOTS = {
    "dashboard-light": {"viewport": {"width": 1200, "height": 1240}},
    "dashboard-dark": {"viewport": {"width": 1200, "height": 1240}, "color_scheme": "dark"},
    "dashboard-phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(FL_DATA_DIR=f"{folder}/data") as server,
        chromium() as browser,
    ):
        pages = {}
        for name, options in SHOTS.items():
            pages[name] = Watched(browser.new_context(**options)).page
            pages[name].goto(server.url)
        run = subprocess.Popen(
            [
                *(*MODULE, "--server", server.url, "--dataset", "digits", "--rounds", "12"),
                *("--name", "Handwritten digits", "--local-epochs", "3"),
                *("--out", f"{folder}/run"),
            ],
            env=environment(FL_ADMIN_KEY=KEY),
            stdout=subprocess.DEVNULL,
        )
        listing = f"{server.url}/v1/experiments"
        experiment = wait_for(lambda: httpx.get(listing, trust_env=False).json(), 200)[0]["id"]
        for page in pages.values():
            page.goto(f"{server.url}/#/experiments/{experiment}")
        wait_for(lambda: _shown(server, experiment)["round"] >= 8, 200)
        wait_for(lambda: 3 <= len(_shown(server, experiment)["current_round"]["reported"]) <= 8)
        run.send_signal(19)  # SIGSTOP: so that all pictures show the same moment
        for name, page in pages.items():
            page.wait_for_timeout(2500)
            _save(page.screenshot(), DOCS / f"{name}.png")
        run.kill()
        run.wait()


def _shown(server: Server, experiment: str) -> dict:
    answer = httpx.get(f"{server.url}/v1/experiments/{experiment}", trust_env=False)
    return answer.json()


def _save(data: bytes, path: Path) -> None:
    Image.open(BytesIO(data)).convert("RGB").save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
