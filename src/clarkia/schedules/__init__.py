"""Noise and mask schedules over t in [0, 1], and the grids of times a sampler walks.

A schedule's parameter may be one number or one a column; a time `(n,)` meets a per-column parameter as `(n, columns)`.
"""

from clarkia.schedules.columns import against
from clarkia.schedules.element_time import PoissonElementTime
from clarkia.schedules.grids import (
    TimeGrid,
    beta,
    check_times,
    cosine,
    discrete,
    karras,
    log_snr,
    polyexp,
    quadratic,
    shift,
    uniform,
)
from clarkia.schedules.mask import CosineMask, GeometricMask, LearnedPolynomialMask, PolynomialMask, SquaredCosineMask
from clarkia.schedules.noise import CosineVP, LearnedPowerMean, LinearVP, PowerMean
from clarkia.schedules.optimise import shortest_paths
from clarkia.schedules.published import ALIGN_YOUR_STEPS, align_your_steps, interpolated
from clarkia.schedules.search import TimeSearch, search_times
from clarkia.schedules.square_root import SquareRootVP
from clarkia.schedules.tabulated import TabulatedVP

__all__ = [
    "ALIGN_YOUR_STEPS",
    "CosineMask",
    "CosineVP",
    "GeometricMask",
    "LearnedPolynomialMask",
    "LearnedPowerMean",
    "LinearVP",
    "PoissonElementTime",
    "PolynomialMask",
    "PowerMean",
    "SquareRootVP",
    "SquaredCosineMask",
    "TabulatedVP",
    "TimeGrid",
    "TimeSearch",
    "against",
    "align_your_steps",
    "beta",
    "check_times",
    "cosine",
    "discrete",
    "interpolated",
    "karras",
    "log_snr",
    "polyexp",
    "quadratic",
    "search_times",
    "shift",
    "shortest_paths",
    "uniform",
]
