"""DP-FedAvg: differential privacy of clients with a fixed clipping norm."""

from __future__ import annotations

from typing import Literal

from serverless_fl.privacy.client_level import ClientLevel


class DpFedAvg(ClientLevel):
    """Clips each update to a fixed norm, and adds Gaussian noise to their mean.

    McMahan et al., "Learning Differentially Private Recurrent Language Models", 2018,
    arXiv:1710.06963. Choose it where nobody must learn from the models whether a client's data went
    into them, and where there are hundreds of clients: the noise on the mean is `noise_multiplier`
    times the norm, divided by the number of updates. The coordinator sees the updates and is
    trusted with them.
    """

    name: Literal["dp-fedavg"] = "dp-fedavg"
