"""Five practices estimate how diabetes goes on: a linear regression, measured by R squared.

    python -m examples.diabetes

scikit-learn's diabetes set. The loss and the metric are functions of outputs and targets; a metric
of any name travels, is stored and is plotted.
"""

import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from torch import nn

from client_sdk import TorchTask, simulate


def r2(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """The share of the targets' variance that the outputs explain."""
    return float(1 - ((targets - outputs) ** 2).sum() / ((targets - targets.mean()) ** 2).sum())


if __name__ == "__main__":
    x, y = load_diabetes(return_X_y=True, scaled=True)
    x, y = x / x.std(0), (y - y.mean()) / y.std()
    train, test = (x[:350], y[:350]), (x[350:], y[350:])
    task = TorchTask(lambda: nn.Linear(10, 1), loss=nn.MSELoss(), metrics={"r2": r2}, name="linear")
    result = simulate(task, train, test, clients=5, rounds=10, local_epochs=5, learning_rate=0.02)
    pooled = LinearRegression().fit(*train).score(*test)
    print(f"R squared {result.metrics['r2']:.3f}; of the pooled rows {pooled:.3f}")
