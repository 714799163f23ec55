"""Tables of conditional probabilities and amounts of money, and exact sums over what is not observed.

A law is a list of factors over named finite axes, one letter an axis. An amount takes part through its bands: whatever
depends on it depends on the band it lies in. Any probability is then one `einsum` over the factors, with the observed
axes fixed to the codes of n rows at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[Any]


@dataclass(frozen=True)
class Conditional:
    """The exact law of a column given others.

    Attributes:
        missing: probability that the cell is missing.
        values: the possible values of a finite column, else None.
        probabilities: their probabilities, else None.
        mean: expectation of a numeric column, else None.
        sd: standard deviation of a numeric column, else None.
        cdf: P(value <= x) as a function of a number or an array, for a numeric column, else None.
    """

    missing: float
    values: tuple[Any, ...] | None = None
    probabilities: Array | None = None
    mean: float | None = None
    sd: float | None = None
    cdf: Callable[[Any], Array] | None = None


@dataclass(frozen=True)
class Table:
    """Probabilities over finite axes, P(last axis | the others) or P(missing | all axes)."""

    axes: str
    probabilities: Array


@dataclass(frozen=True)
class Amount:
    """A sum of money: with some probability one of a few round values, else log-normal, possibly rounded.

    Attributes:
        axes: the axes of its parents.
        band: the axis of its bands.
        mu: mean of the logarithm, one for each state of the parents.
        sigma: standard deviation of the logarithm.
        atoms: the round values.
        atom_probabilities: their probabilities, the last axis, for each state of the parents.
        edges: upper ends of the bands but the last; a band is (edge before, edge].
        step: what the log-normal values are rounded to, to `step` at least; 0 leaves them as they are.
    """

    axes: str
    band: str
    mu: Array
    sigma: float
    atoms: tuple[float, ...]
    atom_probabilities: Array
    edges: tuple[float, ...]
    step: float = 0.0

    def draw(self, parents: tuple[Array, ...], rng: np.random.Generator) -> Array:
        """One value for each row, given the codes of the parents."""
        smooth = np.exp(self.mu[parents] + self.sigma * rng.standard_normal(len(parents[0])))
        if self.step:
            smooth = np.maximum(np.round(smooth / self.step), 1) * self.step
        atom = choose(_with_rest(self.atom_probabilities[parents]), rng)
        return np.where(atom < len(self.atoms), np.append(self.atoms, 0.0)[atom], smooth)

    def bands_of(self, values: Array) -> Array:
        """The band of each value."""
        return np.searchsorted(self.edges, values, side="left")

    def density(self, values: Array, codes: Mapping[str, Array]) -> tuple[Array, str]:
        """Probability, or density where nothing is rounded, of n values given the codes; with the axes left free."""
        mu, axes = fix(self.mu, self.axes, codes)
        atoms, _ = fix(self.atom_probabilities, self.axes, codes)
        if not axes.startswith("n"):
            mu, atoms, axes = mu[None], atoms[None], "n" + axes
        values = values.reshape(-1, *[1] * (len(axes) - 1))
        rest = 1.0 - atoms.sum(axis=-1)
        total = rest * self._smooth_density(values, mu)
        for k, atom in enumerate(self.atoms):
            total = np.where(values == atom, atoms[..., k] + (total if self.step else 0.0), total)
        return total, axes

    def _smooth_density(self, values: Array, mu: Array) -> Array:
        positive = np.where(values > 0, values, 1.0)
        if not self.step:
            z = (np.log(positive) - mu) / self.sigma
            return np.where(values > 0, np.exp(-0.5 * z * z) / (np.sqrt(2 * np.pi) * self.sigma * positive), 0.0)
        cell = np.round(positive / self.step)
        on_grid = (values > 0) & (np.abs(positive / self.step - cell) < 1e-6 * cell) & (cell >= 1)
        low = np.where(cell == 1, 0.0, (cell - 0.5) * self.step)
        return np.where(on_grid, self._between(low, (cell + 0.5) * self.step, mu), 0.0)

    def below(self, x: float) -> Array:
        """P(value <= x, band) for each state of the parents, bands along the last axis."""
        lows, highs = self._band_ends()
        if self.step:
            # 1e-6 of a step keeps a value such as 0.29, stored a little low, in its own cell.
            x_end = 0.0 if x < self.step else (np.floor(x / self.step + 1e-6) + 0.5) * self.step
        else:
            x_end = max(x, 0.0)
        smooth = self._between(np.minimum(lows, x_end), np.minimum(highs, x_end), self.mu[..., None])
        return self._rest() * smooth + self._by_band(np.where(np.array(self.atoms) <= x, 1.0, 0.0))

    def moments(self, power: int) -> Array:
        """E[value ** power; band] for each state of the parents, less the rounding (under 1e-8 of it)."""
        lows, highs = self._band_ends()
        mu = self.mu[..., None]
        scale = np.exp(power * mu + 0.5 * (power * self.sigma) ** 2)
        smooth = scale * self._between(lows, highs, mu + power * self.sigma**2)
        return self._rest() * smooth + self._by_band(np.array(self.atoms) ** power)

    def _between(self, low: Any, high: Any, mu: Array) -> Array:
        """P(low < log-normal < high), accurate in both tails."""
        with np.errstate(divide="ignore"):
            a, b = (np.log(low) - mu) / self.sigma, (np.log(high) - mu) / self.sigma
        upper = a > 0
        return ndtr(np.where(upper, -a, b)) - ndtr(np.where(upper, -b, a))

    def _band_ends(self) -> tuple[Array, Array]:
        """Where the bands begin and end before rounding."""
        ends = [edge + self.step / 2 if edge > 0 else 0.0 for edge in self.edges]
        return np.array([0.0, *ends]), np.array([*ends, np.inf])

    def _rest(self) -> Array:
        return 1.0 - self.atom_probabilities.sum(axis=-1, keepdims=True)

    def _by_band(self, weights: Array) -> Array:
        """Sum of weight times probability over the atoms of each band."""
        member = self.bands_of(np.array(self.atoms))[:, None] == np.arange(len(self.edges) + 1)
        return self.atom_probabilities @ (weights[:, None] * member)


@dataclass(frozen=True)
class Evidence:
    """What is known of n rows.

    Attributes:
        codes: for each observed axis the codes, int of shape (n,).
        allowed: for each axis that is known to lie in a set, whether a code is in it, shape (codes,).
        amounts: for each observed amount the values, shape (n,).
        missing: for each column that may be missing, whether it is known to be missing or to be there.
        possible: shape (n,), false where a value lies outside the law.
    """

    codes: dict[str, Array]
    allowed: dict[str, Array]
    amounts: dict[str, Array]
    missing: dict[str, bool]
    possible: Array


@dataclass(frozen=True)
class Law:
    """The factors of a joint law, by column.

    Attributes:
        tables: P(column | parents) of the finite columns.
        amounts: the amounts.
        missing: P(missing | axes) of the columns that may be missing.
    """

    tables: Mapping[str, Table]
    amounts: Mapping[str, Amount]
    missing: Mapping[str, Table]

    def total(self, evidence: Evidence, keep: str = "") -> Array:
        """The law at the evidence, summed over all else but the axes to keep.

        Args:
            evidence: what is known of n rows.
            keep: axes to keep, none of them observed.

        Returns:
            Array of shape (n, *keep).
        """
        operands = [fix(table.probabilities, table.axes, evidence.codes) for table in self.tables.values()]
        for column, amount in self.amounts.items():
            if column in evidence.amounts:
                operands.append(amount.density(evidence.amounts[column], evidence.codes))
            else:
                operands.append(fix(amount.below(np.inf), amount.axes + amount.band, evidence.codes))
        for column, missing in evidence.missing.items():
            table = self.missing[column]
            chance = table.probabilities if missing else 1.0 - table.probabilities
            operands.append(fix(chance, table.axes, evidence.codes))
        operands += [(inside.astype(np.float64), axis) for axis, inside in evidence.allowed.items()]
        operands.append((evidence.possible.astype(np.float64), "n"))
        formula = ",".join(axes for _, axes in operands) + "->n" + keep
        return np.einsum(formula, *(array for array, _ in operands), optimize="greedy")


def fix(array: Array, axes: str, codes: Mapping[str, Array]) -> tuple[Array, str]:
    """Index the observed axes of an array with the codes of n rows.

    Args:
        array: one axis for each letter of `axes`, and possibly more behind them.
        axes: the letters.
        codes: the codes of the observed axes, each of shape (n,).

    Returns:
        The array, with rows first and the observed axes gone, and its letters, "n" for the rows.
    """
    fixed = [axis for axis in axes if axis in codes]
    if not fixed:
        return array, axes
    front = np.moveaxis(array, [axes.index(axis) for axis in fixed], range(len(fixed)))
    return front[tuple(codes[axis] for axis in fixed)], "n" + "".join(axis for axis in axes if axis not in codes)


def choose(probabilities: Array, rng: np.random.Generator) -> Array:
    """One code for each row of a table of probabilities."""
    uniform = rng.random(len(probabilities))
    # The last sum may fall short of 1 by rounding; no code may lie beyond the last possible one.
    sums = probabilities.cumsum(axis=1)
    return (uniform[:, None] * sums[:, -1:] >= sums).sum(axis=1)


def normalised(weights: Any) -> Array:
    """Weights divided by their sum along the last axis."""
    weights = np.asarray(weights, dtype=np.float64)
    return weights / weights.sum(axis=-1, keepdims=True)


def mixture(amount: Amount, weights: Array, missing: float) -> Conditional:
    """The law of an amount from the joint weights of its parents and bands."""
    inside = amount.below(np.inf)
    share = np.divide(weights, inside, out=np.zeros_like(weights), where=inside > 0) / weights.sum()
    mean, square = (float((share * amount.moments(power)).sum()) for power in (1, 2))

    def cdf(x: Any) -> Array:
        points = np.asarray(x, dtype=np.float64)
        flat = [(share * amount.below(point)).sum() for point in points.ravel()]
        return np.array(flat).reshape(points.shape)

    return Conditional(missing, mean=mean, sd=float(np.sqrt(square - mean**2)), cdf=cdf)


def finite(values: Sequence[Any], probabilities: Array, missing: float) -> Conditional:
    """The law of a finite column; with mean and standard deviation where its values are numbers."""
    probabilities = normalised(probabilities)
    if not isinstance(values[0], int) or isinstance(values[0], bool):
        return Conditional(missing, tuple(values), probabilities)
    numbers = np.asarray(values, dtype=np.float64)
    mean = float(probabilities @ numbers)
    sd = float(np.sqrt(probabilities @ (numbers - mean) ** 2))

    def cdf(x: Any) -> Array:
        return (probabilities * (numbers <= np.asarray(x, dtype=np.float64)[..., None])).sum(axis=-1)

    return Conditional(missing, tuple(values), probabilities, mean, sd, cdf)


def _with_rest(probabilities: Array) -> Array:
    """The probabilities and, last, what they leave over."""
    return np.concatenate([probabilities, 1.0 - probabilities.sum(axis=-1, keepdims=True)], axis=-1)
