"""Parties with tables of their own take part in one process, one of them after the start."""

import asyncio

import numpy as np

from client_sdk.data.tables.reading import read_table
from client_sdk.engines.in_line import InLine
from client_sdk.engines.later_trainer import LaterTrainer
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.participant import Participant
from client_sdk.task.own_data.describing import Look, plan_of
from client_sdk.task.own_data.reading import Source, read_site
from client_sdk.tools.predict_table import predict_table
from tests.support.federation import config
from tests.support.own_data import OWN
from tests.support.own_files import LABEL, hospitals


class Party:
    """A participant with a CSV, and what it trains on once the scales are fixed."""

    def __init__(self, federation, experiment, path, initial):
        self.site = read_site(Source(path=path, label=LABEL), initial, federated=True)
        declared = self.site.declaration()
        self.x = None
        self.trainer = LaterTrainer(self.make)
        self.participant = Participant(
            *(federation.admin, experiment, path.stem * 5, self.trainer),
            own=range(declared.examples),
            facts=declared.facts,
            sums=declared.sums,
        )

    async def make(self):
        task, data, _ = self.site.ready((await self.participant.agreement()).scales)
        self.x = data.x
        return LocalTrainer(task, data, InLine())


async def test_a_party_that_comes_late_uses_the_scales_that_are_fixed(quick, tmp_path):
    paths = hospitals(tmp_path, (60, 40, 30))
    plan = plan_of(Look(like=paths[0], label=LABEL), federated=True)
    initial = plan.initial(0)
    settings = config(
        **OWN, normalisation="federated", clients=3, clients_per_round=2, min_clients=2, rounds=4
    )
    made = await quick.admin.create_experiment("own", settings, "make-own")
    await quick.admin.upload_initial_model(made.id, initial, made.part_bytes)
    parties = [Party(quick, made.id, path, initial) for path in paths]
    for party in parties:  # the second one starts the experiment
        await party.participant.enrol(made.enrolment_key)
    stored = await quick.coordinator().context.repo.clients(made.id, "", 9)
    assert [(c.examples, len(c.sums)) for c in stored] == [(60, 30), (40, 30), (30, 0)]
    async with asyncio.timeout(100):
        ends = await asyncio.gather(*(party.participant.run() for party in parties))
    for party in parties:
        party.trainer.close()
    assert {end.state for end in ends} == {"completed"}
    # Whoever downloads the last model predicts on raw rows with it.
    model = tmp_path / "global.safetensors"
    model.write_bytes(await quick.admin.download_model(made.id, 4))
    rows = predict_table(paths[2], model)
    labels = read_table(paths[2], LABEL).label
    right = [
        row.answer == labels.categories[int(c)] for row, c in zip(rows, labels.values, strict=True)
    ]
    assert np.mean(right) > 0.8
    # Mean 0 and deviation 1 over the two that were there at the start, not over all three.
    first = np.concatenate([party.x for party in parties[:2]])
    assert np.abs(first[:, 0].mean()) < 0.05
    fixed = {scale.column: scale for scale in (await quick.admin.agreement(made.id)).scales}
    assert fixed["mean radius"].count == sum(
        sum(s.count for s in party.site.declaration().sums if s.column == "mean radius")
        for party in parties[:2]
    )
    assert parties[2].x.shape == (30, 60)
