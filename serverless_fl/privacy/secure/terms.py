"""How a masked update is made: what all parties of an attempt must agree on beside the roster."""

from __future__ import annotations

from dataclasses import dataclass

from serverless_fl.domain.experiment import Config


@dataclass(frozen=True, kw_only=True)
class Terms:
    """`bits` of a word, the largest change of a weight that counts, the most `parties` in a sum,
    the most examples with which a party counts, and the names of the metrics that updates carry.
    """

    bits: int
    max_weight_change: float
    parties: int
    most_examples: int
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, config: Config) -> Terms:
        """Give those of an experiment."""
        return cls(
            bits=int(config.mask_words.removeprefix("uint")),
            max_weight_change=config.max_weight_change,
            parties=config.clients_per_round,
            most_examples=config.most_examples,
            metrics=config.metrics_in_masks,
        )

    @property
    def text(self) -> str:
        """All of it in one line, for the digest of an attempt."""
        numbers = f"{self.bits} {self.max_weight_change!r} {self.parties} {self.most_examples}"
        return f"{numbers} {','.join(self.metrics)}"
