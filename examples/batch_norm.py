"""Five sites whose scanners differ read digits, with and without FedBN.

    python -m examples.batch_norm

Each site's scanner has its own brightness and contrast at every pixel. Where batch normalisation
stays at home (Li et al., "FedBN", ICLR 2021), each site's layers know its own scanner. The figures
are means over the sites, each measured on what it held out.
"""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

from client_sdk import TorchTask, simulate


class Network(nn.Sequential):
    """Pixels [N, 64] to scores [N, 10]; batch normalisation comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("bn", nn.BatchNorm1d(64))
        self.add_module("hidden", nn.Linear(64, 32))
        self.add_module("relu", nn.ReLU())
        self.add_module("scores", nn.Linear(32, 10))


def sites(count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The digits, shared out; every site's pixels are shifted and scaled by its scanner."""
    x, y = load_digits(return_X_y=True)
    draws, found = np.random.default_rng(0), {}
    x = x / 16 + draws.normal(0, 0.1, x.shape)
    for n, mine in enumerate(np.array_split(draws.permutation(len(y)), count)):
        offset, contrast = draws.normal(0, 0.5, 64), draws.uniform(0.3, 3, 64)
        found[f"site {n}"] = ((x[mine] + offset) * contrast, y[mine])
    return found


if __name__ == "__main__":
    for name, shared in {"all is shared": ["*"], "FedBN": ["*", "!*bn*"]}.items():
        result = simulate(TorchTask(Network), sites(5), shared=shared, rounds=6, local_epochs=5)
        found = result.sites
        print(f"{name}: accuracy {found.mean:.2%}, at the worst site {found.worst.value:.2%}")
