"""Four clinics learn which department a note is for: a mean of word vectors and a linear layer.

    python -m examples.text_classifier

Each clinic has mostly notes of a few departments (Dirichlet, alpha 0.5 over each client's classes).
"""

import torch
from torch import nn

from client_sdk import TorchTask, simulate
from examples.sentences import DEPARTMENTS, notes, vocabulary


class BagOfWords(nn.Module):
    """The mean of the words' vectors, then a score for each department."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(len(vocabulary()), 16, padding_idx=0)
        self.head = nn.Linear(16, len(DEPARTMENTS))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Words int64 [N, LENGTH] to scores [N, departments]."""
        return self.head(self.words(words))


if __name__ == "__main__":
    words, departments, _ = notes(1200, seed=0)
    test_words, test_departments, _ = notes(400, seed=1)
    result = simulate(
        TorchTask(BagOfWords, classes=list(DEPARTMENTS)),
        train=(words, departments),
        test=(test_words, test_departments),
        clients=4,
        split="dirichlet-clients",
        rounds=8,
        local_epochs=3,
        learning_rate=1.0,
    )
    print(f"accuracy {result.metrics['accuracy']:.2%}")
