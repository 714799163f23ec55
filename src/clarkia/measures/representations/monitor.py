"""Watching a network while it trains: numbers at regular steps, from outside the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from clarkia.measures.fields.checks import check_count
from clarkia.measures.inputs import features as as_features
from clarkia.measures.representations.diffusion import Normalisation, default_bandwidth
from clarkia.measures.representations.filters import conv_filters
from clarkia.measures.representations.spectral_entropy import diffusion_spectral_entropy
from clarkia.measures.representations.spectral_information import diffusion_spectral_mutual_information, groups
from clarkia.random import generator
from clarkia.training import Status
from clarkia.training.progress import Listener


class Monitor:
    """A listener of `training.fit` that measures something every so many steps.

    Pass it as ``progress``. The loop reports some times a second, so a measurement is taken at the first report at or
    after each multiple of ``every``; its true step is in the record. Call `record` for one at a moment of your own,
    say before training.

    Args:
        measure: Gives the numbers, by name.
        every: Steps between two measurements.
        then: Another listener that is told every status too, say a progress bar.

    Attributes:
        history: A dict a measurement: ``step`` and the numbers.

    Raises:
        ValueError: ``every`` is no positive whole number.
    """

    def __init__(self, measure: Callable[[], Mapping[str, float]], every: int, *, then: Listener | None = None) -> None:
        self.history: list[dict[str, float]] = []
        self._measure, self._every, self._then = measure, check_count(every, "every"), then
        self._due = self._every

    def __call__(self, status: Status) -> None:
        """Measure when it is time."""
        if status.step >= self._due:
            self.record(status.step)
            self._due = (status.step // self._every + 1) * self._every
        if self._then is not None:
            self._then(status)

    def record(self, step: int) -> dict[str, float]:
        """Measure now and write it down under a step."""
        line = {"step": step, **self._measure()}
        self.history.append(line)
        return line


def representation_monitor(
    features: Callable[[], Mapping[Any, Tensor]],
    *,
    labels: Any = None,
    inputs: Any = None,
    every: int = 100,
    bandwidth: float | Mapping[Any, float] | None = None,
    t: float = 1,
    normalisation: Normalisation = "anisotropic",
    num_groups: int = 10,
    max_samples: int = 2_000,
    seed: int = 0,
    then: Listener | None = None,
) -> Monitor:
    """Watch the entropy of layers, and their information about labels and inputs, on a fixed set of probe data.

    Args:
        features: Gives features ``(n, d)`` by name from the network as it is at the moment, always of the same probe
            data: ``lambda: activations(network, x, layers)``, or for a denoiser at several noise levels
            ``lambda: denoiser_features(denoiser, process, x, levels, layers, generator=generator(0))``.
        labels: Labels ``(n,)`` of the probe data, or None.
        inputs: The probe data as vectors ``(n, e)``, grouped once, or None.
        every: Steps between two measurements.
        bandwidth: s of the kernel, one or one a name. Where None, the entropy takes the default of the first
            measurement, then frozen: a bandwidth that moves with the features would not see them grow. The information
            takes the default of each moment: with a frozen one it falls to 0 as soon as features have grown so far
            that every row is a place of its own.
        t: Power of the eigenvalues.
        normalisation: As in `diffusion_spectral_entropy`.
        num_groups: Groups of the inputs.
        max_samples: Use a random sub-sample, always the same, of larger sets.
        seed: Fixes sub-samples and random subsets.
        then: Another listener that is told every status too.

    Returns:
        A monitor whose records hold, for each name: ``entropy``, ``bandwidth``, and where asked for
        ``information about labels`` and ``information about inputs``, as ``"{name}: {number}"``.

    Raises:
        ValueError: ``every`` is no positive whole number, inputs that are not finite rows; at a measurement what the
            two measures raise.

    Source: Assessing Neural Network Representations During Training Using Noise-Resilient Diffusion Spectral Entropy
    (2023).
    """
    about = {"labels": labels}
    about["inputs"] = None if inputs is None else groups(inputs, num_groups, generator=generator(seed, 0))
    frozen: dict[Any, float] = dict(bandwidth) if isinstance(bandwidth, Mapping) else {}

    def measure() -> dict[str, float]:
        line = {}
        for name, z in features().items():
            if name not in frozen:
                known = not isinstance(bandwidth, Mapping) and bandwidth is not None
                frozen[name] = float(bandwidth) if known else _first(z, max_samples, seed)  # type: ignore[arg-type]
            options = {"t": t, "normalisation": normalisation, "max_samples": max_samples}
            entropy = diffusion_spectral_entropy(z, bandwidth=frozen[name], generator=generator(seed, 1), **options)
            line |= {f"{name}: entropy": float(entropy), f"{name}: bandwidth": frozen[name]}
            for what, y in about.items():
                if y is not None:
                    s = frozen[name] if bandwidth is not None else None
                    found = diffusion_spectral_mutual_information(
                        z, y, bandwidth=s, generator=generator(seed, 2), **options
                    )
                    line[f"{name}: information about {what}"] = found.value
        return line

    return Monitor(measure, every, then=then)


def filter_monitor(module: nn.Module, *, every: int = 100, then: Listener | None = None) -> Monitor:
    """Watch the health of a network's 3 x 3 filters.

    Args:
        module: The network.
        every: Steps between two measurements.
        then: Another listener that is told every status too.

    Returns:
        A monitor whose records hold sparsity and variance entropy of every layer, as ``"{layer}: {number}"``.

    Raises:
        ValueError: No layer of 3 x 3 filters; ``every`` is no positive whole number.

    Source: CNN Filter DB: An Empirical Investigation of Trained Convolutional Filters (2022).
    """
    conv_filters(module)  # a network without such filters is refused now, not after hours

    def measure() -> dict[str, float]:
        found = conv_filters(module)
        return {
            f"{layer.name}: {what}": value
            for layer in found
            for what, value in (("sparsity", layer.sparsity), ("entropy", layer.entropy))
        }

    return Monitor(measure, every, then=then)


def _first(z: Tensor, max_samples: int, seed: int) -> float:
    rows = as_features(z, "features")
    return default_bandwidth(rows[:max_samples], generator=generator(seed, 3))
