"""How far synthetic features are from real ones, class by class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clarkia.curation.checks import check_count, check_number
from clarkia.measures.two_sample.characteristic import characteristic_distance
from clarkia.measures.two_sample.frequencies import network_frequencies, new_network
from clarkia.random import randn

Gap = Callable[[Sequence[Tensor], Sequence[Tensor], torch.Generator], Tensor]


class Criterion(ABC):
    """A distance of two lists of feature sets, one set a class, for one run of a distillation."""

    @abstractmethod
    def begin(self) -> Gap:
        """``gap(real, synthetic, generator)``: the mean over classes, differentiable in the synthetic features."""


@dataclass(frozen=True)
class MeanGap(Criterion):
    """Squared distance of the means: the baseline, blind to all else."""

    def begin(self) -> Gap:
        """The distance."""

        def gap(real: Sequence[Tensor], synthetic: Sequence[Tensor], generator: torch.Generator) -> Tensor:
            pairs = zip(real, synthetic, strict=True)
            return torch.stack([(a.mean(0) - b.mean(0)).square().sum() for a, b in pairs]).mean()

        return gap


@dataclass(frozen=True)
class CharacteristicGap(Criterion):
    """Distance of characteristic functions at normal frequencies, new at every step and shared by the classes.

    Attributes:
        count: Number of frequencies.
        scale: Of the frequencies, in units of one over the features; 1 suits features of unit length.
        power: 1, or 2 for gradients that vanish where the sets agree.
        alpha: Weight of amplitudes, that is of spread.
        beta: Weight of phases, that is of location.

    Source: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (2025).
    """

    count: int = 4096
    scale: float = 1.0
    power: int = 1
    alpha: float = 0.5
    beta: float = 0.5

    def __post_init__(self) -> None:
        check_count(self.count, "count")
        check_number(self.scale, "scale", low=0, open=True)
        check_count(self.power, "power", most=2)

    def begin(self) -> Gap:
        """The distance."""

        def gap(real: Sequence[Tensor], synthetic: Sequence[Tensor], generator: torch.Generator) -> Tensor:
            t = self.scale * randn((self.count, real[0].shape[1]), generator, dtype=torch.float64)
            return self.at(t.to(real[0].device), real, synthetic)

        return gap

    def at(self, t: Tensor, real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
        """Mean distance of the classes at the frequencies t."""
        options = {"frequencies": t, "alpha": self.alpha, "beta": self.beta, "power": self.power}
        pairs = zip(real, synthetic, strict=True)
        return torch.stack([characteristic_distance(a, b, **options) for a, b in pairs]).mean()


@dataclass(frozen=True)
class AdversarialGap(Criterion):
    """Distance of characteristic functions at the frequencies of a network that climbs it while the data descend.

    Before each step the network takes one of its own, on the distance of that moment; its frequencies are bounded,
    without which it would end in noise.

    Attributes:
        count: Number of frequencies of a step.
        learning_rate: Of the network's Adam.
        bound: Largest absolute component of a frequency.
        power: As in `CharacteristicGap`.

    Source: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (2025).
    """

    count: int = 64
    learning_rate: float = 1e-3
    bound: float = 1.0
    power: int = 1

    def __post_init__(self) -> None:
        check_count(self.count, "count", least=2)
        check_number(self.learning_rate, "learning_rate", low=0, open=True)
        check_number(self.bound, "bound", low=0, open=True)
        check_count(self.power, "power", most=2)

    def begin(self) -> Gap:
        """The distance, with a new network."""
        plain = CharacteristicGap(power=self.power)
        networks: dict[int, tuple] = {}  # by width of the features; layers of one width share one

        def gap(real: Sequence[Tensor], synthetic: Sequence[Tensor], generator: torch.Generator) -> Tensor:
            width = real[0].shape[1]
            if width not in networks:
                weights = new_network(width, generator, torch.zeros((), dtype=torch.float64))
                flat = [part for layer in weights for part in layer]
                networks[width] = (weights, torch.optim.Adam(flat, lr=self.learning_rate))
            weights, optimiser = networks[width]
            with torch.enable_grad():
                t = network_frequencies(weights, self.count, self.bound, generator)
                optimiser.zero_grad()
                (-plain.at(t, real, [rows.detach() for rows in synthetic])).backward()
                optimiser.step()
            with torch.no_grad():
                t = network_frequencies(weights, self.count, self.bound, generator)
            return plain.at(t, real, synthetic)

        return gap
