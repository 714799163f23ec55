"""What settings of a generator trade: consistency, diversity, realism and cost; and which of them lose to none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clarkia.bench.tables import markdown
from clarkia.measures.fronts import PerCondition, Pooled, Sweep, front_probability, sweep
from clarkia.measures.intervals import Interval
from clarkia.measures.kernels import Kernel
from clarkia.measures.two_sample import prdc, vendi
from clarkia.reports import plot_front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clarkia.datasets.shapes import Judge
    from clarkia.models.image import ImageModel

COST = "cost"
REFERENCE = {"consistency": 0.0, "diversity": 1.0, "realism": 0.0}
"""Worst acceptable values: nothing right, all alike, nothing like the real."""


@dataclass(frozen=True, eq=False)
class ParetoReport:
    """A sweep of settings with the front they make.

    Attributes:
        sweep: the settings with every axis, cost the last.
        reference: the worst acceptable value of each axis, from which the volume is measured.
    """

    sweep: Sweep
    reference: Mapping[str, float]

    @property
    def volume(self) -> float:
        """Volume that the settings dominate."""
        return self.sweep.hypervolume(self.reference).value

    @property
    def interval(self) -> Interval | None:
        """Its bootstrap interval over seeds; None of a single seed."""
        return self.sweep.hypervolume_interval(self.reference) if self.sweep.draws.shape[1] > 1 else None

    def to_markdown(self) -> str:
        """A line a setting, with standard errors and whether it is on the front, and the volume."""
        sweep = self.sweep
        several = sweep.draws.shape[1] > 1
        share = front_probability(sweep.replicates()).tolist() if several else [math.nan] * len(sweep.settings)
        rows = []
        for row, setting in enumerate(sweep.settings):
            cells: list[Any] = [_short(value) for value in setting.values()]
            for value, error in zip(sweep.values[row].tolist(), sweep.standard_errors[row].tolist(), strict=True):
                cells.append(f"{value:.3g}" + (f" ± {error:.2g}" if error > 0 else ""))
            cells += ["yes" if sweep.mask[row] else "", f"{share[row]:.2f}" if several else "–"]
            rows.append(cells)
        lines = markdown([*sweep.settings[0], *sweep.axes, "on the front", "share of resamples"], rows)
        corner = ", ".join(f"{axis} {value:g}" for axis, value in self.reference.items())
        within = "" if self.interval is None else f" ({self.interval.low:.4g} to {self.interval.high:.4g})"
        lines += ["", f"Volume dominated from {corner}: {self.volume:.4g}{within}."]
        return "\n".join(lines) + "\n"

    def plot(self) -> Figure:
        """Every two axes with their front."""
        return plot_front(self.sweep)


def pareto(
    make_sampler: Callable[[Mapping[str, Any]], Any],
    grid: Mapping[str, Iterable[Any]],
    conditions: Sequence[Any],
    *,
    consistency: Callable[[Any, Any], Any],
    features: Callable[[Any], Tensor],
    kernel: Kernel | None = None,
    real: Tensor | None = None,
    realism: Callable[[Any], Any] | None = None,
    cost: Callable[[Mapping[str, Any]], float] | None = None,
    reference: Mapping[str, float] | None = None,
    per_condition: int = 50,
    num_seeds: int = 3,
    seed: int = 0,
) -> ParetoReport:
    """Sample every setting of some knobs, and measure what it gives and what it costs.

    Diversity is the Vendi score within each condition, which depends on the number of samples and the kernel; both are
    the same for all settings. Over all conditions together a collapse within them would not show.

    Args:
        make_sampler: ``make_sampler(setting) -> sampler(condition, n, generator)``.
        grid: for every knob the values to try.
        conditions: what to sample for.
        consistency: ``consistency(samples, condition) -> float``, the share of what was asked that is there.
        features: ``features(samples) -> (n, d)``, in which diversity and realism are measured.
        kernel: of the Vendi score; by default the cosine.
        real: features of real data ``(m, d)``: realism is then precision and recall the share of it that is covered.
        realism: ``realism(samples) -> float`` instead, of the samples of one condition, larger is better.
        cost: ``cost(setting) -> float``, such as evaluations of the network a sample; by default without.
        reference: worst acceptable value of each axis; cost at least that of every setting.
        per_condition: samples of each condition and seed.
        num_seeds: repetitions, whose spread is the standard error and from which intervals are resampled.
        seed: fixes all draws; they are the same for all settings.

    Raises:
        ValueError: as of `clarkia.measures.sweep`, or neither real data nor a realism.

    Source: Consistency-diversity-realism Pareto fronts of conditional image generative models (2024).
    """
    axes: dict[str, PerCondition | Pooled] = {
        "consistency": PerCondition(consistency),
        "diversity": PerCondition(lambda samples, condition: vendi(features(samples), kernel=kernel)),
    }
    if realism is not None:
        axes["realism"] = PerCondition(lambda samples, condition: realism(samples))
    if real is not None:
        if realism is None:
            axes["realism"] = Pooled(lambda samples: prdc(real, torch.cat([features(s) for s in samples])).precision)
        axes["recall"] = Pooled(lambda samples: prdc(real, torch.cat([features(s) for s in samples])).recall)
    elif realism is None:
        raise ValueError("real: expected real data, or a realism of its own, found neither.")
    swept = sweep(make_sampler, grid, conditions, axes, per_condition=per_condition, num_seeds=num_seeds, seed=seed)
    corner = {**REFERENCE, "recall": 0.0, **(reference or {})}
    if cost is not None:
        swept = _with_cost(swept, cost)
        corner.setdefault(COST, 1.01 * float(swept.values[:, -1].max()))
    return ParetoReport(swept, {axis: corner[axis] for axis in swept.axes})


def _with_cost(swept: Sweep, cost: Callable[[Mapping[str, Any]], float]) -> Sweep:
    """The sweep with one axis more, the same in every repetition."""
    own = torch.tensor([float(cost(setting)) for setting in swept.settings], dtype=torch.float64)
    draws = torch.cat([swept.draws, own[:, None, None].expand(-1, swept.draws.shape[1], 1)], 2)
    return Sweep(swept.settings, (*swept.axes, COST), (*swept.better, "lower"), draws)


def pareto_of_model(
    model: ImageModel,
    captions: Sequence[str],
    judge: Judge,
    grid: Mapping[str, Iterable[Any]],
    *,
    real: Any = None,
    per_condition: int = 16,
    num_seeds: int = 3,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> ParetoReport:
    """The trade-offs of a model of captioned coloured shapes.

    Consistency is the share of pictures that the judge finds right, diversity the Vendi score of a caption's pictures
    in points, realism the judge's: how little of a picture the scene that it shows leaves unexplained. Cost is
    evaluations of the network a picture.

    Args:
        model: a fitted model with captions.
        captions: what is drawn.
        judge: of coloured shapes.
        grid: values of "guidance", "steps" and "best_of", any of them.
        real: real pictures uint8 ``(m, 3, side, side)``: precision in points and recall are measured too.
        per_condition: pictures of each caption and seed.
        num_seeds: repetitions.
        seed: fixes all draws.
        progress: called with the number of pictures done since it was called last.

    Raises:
        ValueError: a knob that there is not.
    """
    from clarkia.bench.generators import best_of, drawn_by
    from clarkia.models.image_parts import STEPS

    unknown = sorted(set(grid) - {"guidance", "steps", "best_of"})
    if unknown:
        raise ValueError(f"grid: expected knobs among guidance, steps and best_of, found {unknown}.")

    def right(pictures: Any, many: Sequence[str]) -> Tensor:
        return judge.satisfies(pictures, list(many)).double()

    def make(setting: Mapping[str, Any]) -> Any:
        draw = drawn_by(model, guidance_scale=setting.get("guidance", 0.0), num_steps=setting.get("steps"))
        draw = best_of(draw, setting["best_of"], right) if setting.get("best_of", 1) > 1 else draw

        def sampler(caption: str, n: int, source: torch.Generator) -> Tensor:
            number = int(torch.randint(2**31, (), generator=source))
            pictures = draw([caption] * n, number)
            if progress is not None:
                progress(n)
            return pictures

        return sampler

    def evaluations(setting: Mapping[str, Any]) -> float:
        passes = 2 if setting.get("guidance", 0.0) else 1
        return (setting.get("steps") or STEPS) * passes * setting.get("best_of", 1)

    return pareto(
        make,
        grid,
        captions,
        consistency=lambda pictures, caption: right(pictures, [caption] * len(pictures)).mean(),
        features=points,
        real=None if real is None else points(real),
        realism=lambda pictures: judge.realism(pictures).mean(),
        cost=evaluations,
        reference={"realism": -1.0},
        per_condition=per_condition,
        num_seeds=num_seeds,
        seed=seed,
    )


def points(pictures: Any) -> Tensor:
    """Pictures as rows, averaged over blocks of four by four points, as differences from the ground."""
    from clarkia.datasets.shapes.scenes import GROUND

    values = torch.as_tensor(pictures).double() / 127.5 - 1 - float(GROUND)
    small = torch.nn.functional.avg_pool2d(values, 4).flatten(1)
    # A picture of nothing but ground has no direction; a hair of the first number gives it one of its own.
    small[:, 0] += 1e-6
    return small


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
