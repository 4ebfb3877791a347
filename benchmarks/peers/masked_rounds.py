"""A whole round under secure aggregation, in both modes, beside Flower's SecAgg+.

    python -m benchmarks.peers.masked_rounds [--full] [--keep]

Ours are real participants and a real coordinator over SQLite; the helper is its real application
over a store of its own. Requests pass in this process, one after another, so that the processor
seconds of each side can be told apart: those within requests are the coordinator's, less those of
its helper, and all others are the clients'. Flower's side is flower_secagg_app.py. Training adds
noise to the weights, and does not count on either side; nor do enrolment and the experiment's
creation. The lost clients fall silent while they train, after they have shared their secrets.

The short form has cohorts of 10 and 100, and takes some minutes; `--full` adds those of 200 and
1,000, as far as a program takes them. `--keep` writes benchmarks/results/masked-rounds.json.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import secrets
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import safetensors.numpy

from app.config import Settings
from app.main import create_app
from app.service.coordinator import Context, Coordinator, Repository
from app.service.helper.helping import Helping
from app.service.helper.service import HelperService
from app.store.port import Body
from app.store.sqlite import open_sqlite
from app.telemetry import logs
from benchmarks.peers.peers import HERE, environment, version
from benchmarks.training.accuracy import RESULTS, machine
from client_sdk.api.client import CoordinatorClient
from client_sdk.memory.memory import Memory
from client_sdk.participant import Event, Participant
from client_sdk.task.task import LocalUpdate
from serverless_fl.domain.records import slot_named
from serverless_fl.privacy.secure import graph
from serverless_fl.privacy.secure.graph import FEWEST
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.contradictions import MOST_OF_16_BITS
from serverless_fl.wire.turns import Train

Shapes = Sequence[tuple[int, ...]]
RESULT = RESULTS / "masked-rounds.json"
KEY = "an-admin-key-of-a-benchmark"
EXAMPLES = 100  # of each client
MODELS: dict[str, Shapes] = {
    # McMahan et al., arXiv:1602.05629: 5x5 convolutions of 32 and 64 channels, 512 units.
    "1.7 million": [
        *((32, 1, 5, 5), (32,), (64, 32, 5, 5), (64,)),
        *((512, 3136), (512,), (10, 512), (10,)),
    ],
    # PyTorch's example network for MNIST, which is the default model.
    "22 thousand": [(10, 1, 5, 5), (10,), (20, 10, 5, 5), (20,), (50, 320), (50,), (10, 50), (10,)],
}
LOST = (0.1, 0.0, 0.3)  # shares of the cohort; all kinds of words with the first one alone
BITS = 16
FLOWER = "Flower"
OURS = (("off", 32), ("helper", 16), ("helper", 32), ("pairs", 16), ("pairs", 32))
NAMES = {
    ("off", 32): "ours, no masks",
    **{(mode, bits): f"ours, `{mode}`, {bits} bits" for mode, bits in OURS[1:]},
    (FLOWER, 32): "Flower's SecAgg+",
}
# Clients of a cohort, by program and model: Flower's server holds all masked vectors at once, 14 MB
# each of 1.7 million weights.
MOST = {(FLOWER, "1.7 million"): 200}
# The stages of a client, by the beginnings of what it says that it has done.
STAGES = {
    "keys sent": "keys",
    "secrets shared": "shares",
    "uploaded": "masked update",
    "helped": "unmasking",
}
CHANGE = 0.01  # deviation of a weight's change in the training
LARGEST_CHANGE = 0.0625  # at which a change is cut off: no draw comes near it


class Accounts:
    """Processor seconds of this process by who spends them; one at a time does."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._spenders = ["nobody"]
        self._since = time.process_time()

    @contextmanager
    def charging(self, spender: str) -> Iterator[None]:
        """Charge what the block spends to `spender`, but for what blocks inside it charge."""
        self._settle()
        self._spenders.append(spender)
        try:
            yield
        finally:
            self._settle()
            self._spenders.pop()

    def _settle(self) -> None:
        now = time.process_time()
        self.seconds[self._spenders[-1]] += now - self._since
        self._since = now


class Carrier(httpx.AsyncBaseTransport):
    """Passes requests to an application in this process; charges it, and counts bytes of bodies."""

    def __init__(self, app: Any, name: str, accounts: Accounts) -> None:
        self._app = httpx.ASGITransport(app)
        self._name, self._accounts = name, accounts
        self.reset()

    def reset(self) -> None:
        """Forget what has passed so far."""
        self._accounts.seconds[self._name] = 0.0
        self.up = self.down = 0
        self.longest = 0.0  # processor seconds of a call

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.up += len(await request.aread())
        before = self._accounts.seconds[self._name]
        with self._accounts.charging(self._name):
            answer = await self._app.handle_async_request(request)
        self.longest = max(self.longest, self._accounts.seconds[self._name] - before)
        self.down += int(answer.headers.get("content-length", "0"))
        return answer


class NearHelper:
    """The port to a helper whose application runs in this process."""

    def __init__(self, carrier: Carrier) -> None:
        self._http = httpx.AsyncClient(
            transport=carrier,
            base_url="http://helper",
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )

    async def about(self) -> Body:
        found: Body = (await self._http.get("/v1/helper")).raise_for_status().json()
        return found

    async def words(self, asked: Body) -> bytes:
        answer = await self._http.post("/v1/helper/words", content=json.dumps(asked).encode())
        return answer.raise_for_status().content


class Adding:
    """Trains by adding noise to each weight, which is charged to nobody."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def train(
        self, client_id: str, indices: Sequence[int], data: bytes, task: Train
    ) -> LocalUpdate:
        with self._accounts.charging("nobody"):
            before = safetensors.numpy.load(data)
            change = change_of(client_id, before)
            after = {name: before[name] + change[name] for name in before}
            return LocalUpdate(safetensors.numpy.save(after), EXAMPLES, {"loss_before": 1.0})


def change_of(client_id: str, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the training of a client changes; the same each time."""
    draw = np.random.default_rng(slot_named(client_id))
    return {
        name: draw.normal(0, CHANGE, weights[name].shape).astype(np.float32)
        for name in sorted(weights)
    }


@dataclass
class Ours:
    """One round of ours, up to its end."""

    mode: str
    bits: int
    shapes: Shapes
    cohort: int
    lost: int  # clients that fall silent while they train

    async def measure(self) -> dict[str, Any]:
        """The figures of the round."""
        self._accounts, self._now = Accounts(), 1_000_000.0
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            return await self._measure(stack, folder)

    async def _measure(self, stack: AsyncExitStack, folder: Path) -> dict[str, Any]:
        helper = await self._helper(stack, folder) if self.mode == "helper" else None
        app = create_app(Settings(admin_key=KEY))
        documents, blobs = await open_sqlite(folder / "coordinator.sqlite3")
        stack.push_async_callback(documents.close)
        near = None if helper is None else NearHelper(helper)
        context = Context(
            repo=Repository(documents), blobs=blobs, clock=lambda: self._now, helper=near
        )
        app.state.coordinator, app.state.admin_key = Coordinator(context, KEY), KEY
        carrier = Carrier(app, "coordinator", self._accounts)
        admin = await stack.enter_async_context(
            CoordinatorClient("http://coordinator", KEY, transport=carrier)
        )
        settings = {} if near is None else {"helper_key": (await near.about())["key"]}
        experiment, clients = await self._begin(admin, folder, settings)
        for each in filter(None, (carrier, helper)):
            each.reset()
        stages = await self._turns(clients)
        found = {
            "clients": dict(stages),
            "server": self._accounts.seconds["coordinator"],
            "longest_call": carrier.longest,
            **{"up": carrier.up, "down": carrier.down},
        }
        if helper is not None:
            found |= {"helper": self._accounts.seconds["helper"], "helper_words": helper.down}
        state = (await admin.experiment(experiment)).state
        if state != "completed":
            return {"completed": False}
        after = safetensors.numpy.load(await admin.download_model(experiment, 1))
        return {"completed": True, **found, "error": self._error(after, list(clients))}

    async def _helper(self, stack: AsyncExitStack, folder: Path) -> Carrier:
        """A helper over a store of its own."""
        app = create_app(Settings(role="helper", admin_key=KEY))
        documents, blobs = await open_sqlite(folder / "helper.sqlite3")
        stack.push_async_callback(documents.close)
        context = Context(repo=Repository(documents), blobs=blobs)
        helping = await Helping.of(context, FEWEST, None)
        app.state.coordinator = HelperService(context, helping, KEY)
        return Carrier(app, "helper", self._accounts)

    async def _begin(
        self, admin: CoordinatorClient, folder: Path, settings: Mapping[str, Any]
    ) -> tuple[str, dict[str, Participant]]:
        """An experiment of one round with all its clients enrolled, and what each has told."""
        masked = {"mask_words": f"uint{self.bits}", "max_weight_change": LARGEST_CHANGE}
        config = ExperimentConfig(
            **{"dataset": "noise", "model": "noise", "dataset_size": EXAMPLES * self.cohort},
            **{"clients": self.cohort, "clients_per_round": self.cohort, "rounds": 1},
            **{"secure_aggregation": self.mode, "max_attempts": 1},
            **({} if self.mode == "off" else masked),
            **settings,
        )
        made = await admin.create_experiment("masked rounds", config, secrets.token_hex(8))
        initial = safetensors.numpy.save(initial_weights(self.shapes))
        await admin.upload_initial_model(made.id, initial, made.part_bytes)
        clients, trainer = {}, Adding(self._accounts)
        for number in range(self.cohort):
            key = hashlib.sha256(b"client %d" % number).hexdigest()
            one = Participant(
                *(admin, made.id, key, trainer),
                memory=Memory(folder / f"{number}.memory"),
                on_event=self._note,
            )
            await one.enrol(made.enrolment_key)
            clients[one.id] = one
        return made.id, dict(sorted(clients.items()))

    def _note(self, event: Event) -> None:
        if event.kind in ("masking", "uploaded"):
            said = "uploaded" if event.kind == "uploaded" else event.message
            self._stage = next(name for start, name in STAGES.items() if said.startswith(start))

    async def _turns(self, clients: Mapping[str, Participant]) -> dict[str, float]:
        """Let the clients take turns until the experiment ends; gives their seconds by stage."""
        spent: defaultdict[str, float] = defaultdict(float)
        while True:
            # The next thing to do is to train, without keys and shares or after them.
            trains = "shares" in spent or self.mode != "pairs"
            alive = list(clients.values())[self.lost if trains else 0 :]
            worked = False
            for one in alive:
                self._stage, before = "polls", self._accounts.seconds["client"]
                with self._accounts.charging("client"):
                    turn = await one.turn()
                spent[self._stage] += self._accounts.seconds["client"] - before
                worked = worked or turn.trained
                if turn.done is not None:
                    return spent
            if not worked:
                self._now += 1000.0  # a deadline passes

    def _error(self, after: Mapping[str, np.ndarray], clients: Sequence[str]) -> float:
        """The root mean square of the difference to the exact mean, over that of the changes."""
        initial = initial_weights(self.shapes)
        mean = {name: np.zeros(array.shape) for name, array in initial.items()}
        for client_id in clients[self.lost :]:
            for name, change in change_of(client_id, initial).items():
                mean[name] += change / (self.cohort - self.lost)
        apart = sum(np.square(after[name] - initial[name] - mean[name]).sum() for name in mean)
        return float((apart / sum(np.square(array).sum() for array in mean.values())) ** 0.5)


def initial_weights(shapes: Shapes) -> dict[str, np.ndarray]:
    """The base model."""
    draw = np.random.default_rng(0)
    return {
        f"t{place}": draw.normal(0, 0.05, shape).astype(np.float32)
        for place, shape in enumerate(shapes)
    }


def flower(shapes: Shapes, cohort: int, lost: int) -> dict[str, Any]:
    """The figures of one round of Flower's, with as many neighbours and the same threshold.

    Raises RuntimeError where it fails.
    """
    found = graph.parameters(cohort)
    settings = {
        **{"shapes": shapes, "cohort": cohort, "lost": lost, "seed": 0},
        **{"shares": found.degree + 1, "threshold": found.threshold},
    }
    command = [environment("flower"), HERE / "flower_secagg_app.py", json.dumps(settings)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"Flower failed: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def cases(
    model: str, cohorts: Sequence[int], losses: Sequence[float]
) -> Iterator[tuple[str, int, int, float]]:
    """Programs, their words' bits, cohorts and shares of lost clients, in the table's order."""
    for cohort in cohorts:
        usual = BITS if cohort <= MOST_OF_16_BITS else 32
        for loss in losses:
            for program, bits in (*OURS, (FLOWER, 32)):
                wanted = program == FLOWER or bits == usual or loss == losses[0]
                known = bits != BITS or cohort <= MOST_OF_16_BITS
                if wanted and known and cohort <= MOST.get((program, model), cohort):
                    yield program, bits, cohort, loss


def measure(model: str, program: str, bits: int, cohort: int, loss: float) -> dict[str, Any]:
    """The figures of a case."""
    shapes, lost = MODELS[model], round(loss * cohort)
    if program == FLOWER:
        found = flower(shapes, cohort, lost)
    else:
        found = asyncio.run(Ours(program, bits, shapes, cohort, lost).measure())
    about = {"model": model, "program": program, "bits": bits, "cohort": cohort, "lost": lost}
    return about | found


def warm_up() -> None:
    """What is imported and compiled at the first use counts for nobody."""
    for mode, bits in OURS:
        measure("22 thousand", mode, bits, 3, 0)


def table(result: Mapping[str, Any], model: str) -> list[list[str]]:
    """The rounds of a model, as a table of Markdown's cells."""
    heads = ["cohort, lost", "program", "a client: s", "coordinator: s", "its longest call: s"]
    heads += ["helper: s", "bytes a weight: up, down"]
    heads += ["clients: ours / Flower's", "coordinator: ours / Flower's"]
    rows = [heads, ["---", "---", *["---:"] * 7]]
    weights = sum(map(math.prod, MODELS[model]))
    found = [row for row in result["rounds"] if row["model"] == model]
    order = list(NAMES)
    found.sort(key=lambda r: (r["cohort"], r["lost"], order.index((r["program"], r["bits"]))))
    theirs = {(r["cohort"], r["lost"]): r for r in found if r["program"] == FLOWER}
    for row in found:
        case = f"{row['cohort']:,}, {row['lost']:,}"
        name = NAMES[row["program"], row["bits"]]
        if not row["completed"]:
            rows.append([case, name, "ends: too few shares are left", *[""] * 6])
            continue
        stay = row["cohort"] - row["lost"]
        client = sum(row["clients"].values()) / stay
        other = theirs.get((row["cohort"], row["lost"]), {"completed": False})
        ratios = ["", ""]
        if row["program"] != FLOWER and other["completed"]:
            their_client = sum(other["clients"].values()) / stay
            ratios = [f"{client / their_client:.2f}", f"{row['server'] / other['server']:.2f}"]
        bytes_a_weight = [f"{row[way] / stay / weights:.2f}" for way in ("up", "down")]
        rows.append(
            [
                *(case, name, f"{client:.3f}", f"{row['server']:.2f}"),
                f"{row['longest_call']:.2f}" if "longest_call" in row else "",
                f"{row['helper']:.2f}" if "helper" in row else "",
                ", ".join(bytes_a_weight),
                *ratios,
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", choices=MODELS, nargs="+", default=list(MODELS))
    parser.add_argument("--cohorts", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--lost", type=float, nargs="+", default=list(LOST))
    parser.add_argument("--full", action="store_true", help="cohorts of 200 and 1,000, too")
    parser.add_argument("--keep", action="store_true", help=f"write {RESULT.name}")
    asked = parser.parse_args()
    logs.configure("json", "error")
    cohorts = [*asked.cohorts, *([200, 1000] if asked.full else [])]
    command = ["python -m benchmarks.peers.masked_rounds", *(["--full"] * asked.full), "--keep"]
    rows: list[dict[str, Any]] = []
    about = {
        **{"command": " ".join(command), "machine": machine(), "Flower": version("flower")},
        **{"date": f"{datetime.now(UTC):%Y-%m-%d}", "rounds": rows},
    }
    warm_up()
    for model in asked.model:
        for case in cases(model, cohorts, asked.lost):
            rows.append(measure(model, *case))
            print(json.dumps(rows[-1]), flush=True)
            if asked.keep:  # after each, as a row takes up to some minutes
                text = json.dumps(about | {"load_at_end": os.getloadavg()[0]}, indent=1)
                RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
