"""The networks of client_sdk/task/models.py, for an environment that has PyTorch alone.

`train_alone` is the training loop of PyTorch's tutorials.
"""

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class CNN(nn.Module):
    """mnist-cnn."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def network(name: str) -> nn.Module:
    """`mnist-cnn`, or `logistic`: logistic regression, as FLUTE's comparison has it."""
    if name == "mnist-cnn":
        return CNN()
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def train_alone(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, settings: dict[str, Any]
) -> float:
    """Train the model in place on one client's examples; gives the seconds of the loop."""
    loader = DataLoader(TensorDataset(x, y), batch_size=settings["batch_size"], shuffle=True)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=settings["learning_rate"], momentum=settings["momentum"]
    )
    loss_of = nn.CrossEntropyLoss()
    model.train()
    begun = time.monotonic()
    for _ in range(settings["local_epochs"]):
        for images, labels in loader:
            optimiser.zero_grad()
            loss = loss_of(model(images), labels)
            loss.backward()
            optimiser.step()
    return time.monotonic() - begun
