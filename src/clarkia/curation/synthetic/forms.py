"""The forms in which a synthetic set is learned: rows as they are, mosaics of small images, tables with logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clarkia.curation.checks import check_count, check_finite
from clarkia.random import Noise, categorical, randn
from clarkia.spaces import Categorical, Mixed, State

Parameters = dict[str, Tensor]

CERTAIN = 3.0
"""Logit that a table starts a row's own category with: probability 0.87 among four, so that others can be reached."""


class Form(ABC):
    """From learned parameters to rows, differentiably."""

    bounds: tuple[float, float] | None = None
    pieces: int = 1
    """Rows that one learned item is made from and decoded into."""

    @abstractmethod
    def check(self, x: State) -> State:
        """The real rows, or a ``ValueError``."""

    @abstractmethod
    def start(self, rows: State) -> Parameters:
        """Parameters of items made from ``pieces`` rows each."""

    @abstractmethod
    def real(self, rows: State) -> Tensor:
        """Real rows as feature functions see them."""

    @abstractmethod
    def view(self, parameters: Parameters) -> Tensor:
        """The items' rows as feature functions see them, ``pieces`` rows an item, in order."""

    @abstractmethod
    def finish(self, parameters: Parameters, generator: Noise) -> State:
        """The items' rows as data."""

    def noise(self, items: int, x: State, generator: Noise) -> Parameters:
        """Parameters that know nothing of the rows but their range or scale."""
        raise ValueError(f"start: expected 'real' or a set of rows for {type(self).__name__}, found 'noise'.")


@dataclass(frozen=True)
class Rows(Form):
    """Rows as they are: embeddings and other vectors, or images.

    Attributes:
        bounds: Lowest and highest value, (0, 1) for images; None for none.
    """

    bounds: tuple[float, float] | None = None

    def check(self, x: State) -> State:
        """The rows; refuses values that are not finite or out of bounds."""
        x = check_finite(x, "x")
        if self.bounds is not None and (float(x.min()) < self.bounds[0] or float(x.max()) > self.bounds[1]):
            raise ValueError(f"x: expected values in {self.bounds}, found {float(x.min()):g} to {float(x.max()):g}.")
        return x

    def start(self, rows: State) -> Parameters:
        """The rows themselves."""
        return {"x": rows.clone()}  # type: ignore[union-attr]

    def noise(self, items: int, x: State, generator: Noise) -> Parameters:
        """Normal around the middle with a quarter of the range, or with the mean and deviation of all values."""
        assert isinstance(x, Tensor)
        low, high = self.bounds or (float(x.mean() - 2 * x.std()), float(x.mean() + 2 * x.std()))
        draws = randn((items, *x.shape[1:]), generator, dtype=x.dtype, device=x.device)
        noise = (low + high) / 2 + (high - low) / 4 * draws
        return {"x": noise if self.bounds is None else noise.clamp(low, high)}

    def real(self, rows: State) -> Tensor:
        """The rows themselves."""
        return rows  # type: ignore[return-value]

    def view(self, parameters: Parameters) -> Tensor:
        """The rows themselves."""
        return parameters["x"]

    def finish(self, parameters: Parameters, generator: Noise) -> State:
        """The rows themselves."""
        return parameters["x"]


@dataclass(frozen=True)
class Mosaic(Rows):
    """Images of ``factor x factor`` small ones, each of which is a row once it is enlarged to full size.

    So a set of the same number of pixels holds ``factor^2`` times as many, coarser, rows.

    Attributes:
        factor: Images along a side; must divide height and width.
        bounds: Lowest and highest pixel value.

    Source: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (2025).
    """

    bounds: tuple[float, float] | None = (0.0, 1.0)
    factor: int = 2

    def __post_init__(self) -> None:
        check_count(self.factor, "factor")

    @property
    def pieces(self) -> int:  # type: ignore[override]
        """Images of a mosaic."""
        return self.factor**2

    def check(self, x: State) -> State:
        """The images; refuses sizes that the factor does not divide."""
        x = super().check(check_finite(x, "x", axes=4))
        assert isinstance(x, Tensor)
        if x.shape[2] % self.factor or x.shape[3] % self.factor:
            raise ValueError(f"x: expected images that divide into {self.factor} x {self.factor}, found {x.shape[2:]}.")
        return x

    def start(self, rows: State) -> Parameters:
        """Mosaics of images made smaller by averaging blocks of pixels."""
        return {"x": assemble(F.avg_pool2d(rows, self.factor), self.factor)}  # type: ignore[arg-type]

    def view(self, parameters: Parameters) -> Tensor:
        """The small images, enlarged."""
        parts = take_apart(parameters["x"], self.factor)
        return F.interpolate(parts, scale_factor=self.factor, mode="bilinear", align_corners=False)

    def finish(self, parameters: Parameters, generator: Noise) -> State:
        """The small images, enlarged."""
        return self.view(parameters)


def assemble(images: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "m c a b"]:
    """Mosaics from each ``factor^2`` images in a row, left to right and top to bottom."""
    n, c, h, w = images.shape
    grid = images.reshape(n // factor**2, factor, factor, c, h, w).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(n // factor**2, c, factor * h, factor * w)


def take_apart(mosaics: Float[Tensor, "m c a b"], factor: int) -> Float[Tensor, "n c h w"]:
    """The images of mosaics; undoes `assemble`."""
    m, c, a, b = mosaics.shape
    grid = mosaics.reshape(m, c, factor, a // factor, factor, b // factor).permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(m * factor**2, c, a // factor, b // factor)


@dataclass(frozen=True)
class Table(Form):
    """Rows of numbers and categories: numbers are learned as they are, categories as logits.

    While learning, a category is its probabilities; at the end one is drawn from them. Feature functions see numbers
    and probabilities in one row.

    Attributes:
        space: The blocks, in the order in which they are laid out.
    """

    space: Mixed

    def check(self, x: State) -> State:
        """The blocks; refuses names, shapes and classes that the space lacks."""
        self.space.check(x, "x")
        assert isinstance(x, dict)
        for name, block in x.items():
            if block.is_floating_point():
                check_finite(block.reshape(len(block), -1), f"x[{name!r}]")
        return dict(x)

    def start(self, rows: State) -> Parameters:
        """The rows' numbers, and logits in favour of their categories."""
        assert isinstance(rows, dict)
        return {
            name: CERTAIN * self._one_hot(rows[name], block) if isinstance(block, Categorical) else rows[name].clone()
            for name, block in self.space.blocks.items()
        }

    def real(self, rows: State) -> Tensor:
        """Numbers and one-hot categories, laid out in a row."""
        assert isinstance(rows, dict)
        return self._row({
            name: self._one_hot(rows[name], block) if isinstance(block, Categorical) else rows[name]
            for name, block in self.space.blocks.items()
        })  # fmt: skip

    def view(self, parameters: Parameters) -> Tensor:
        """Numbers and probabilities, laid out in a row."""
        return self._row({
            name: self._log_probs(parameters[name], block).exp() if isinstance(block, Categorical) else parameters[name]
            for name, block in self.space.blocks.items()
        })  # fmt: skip

    def finish(self, parameters: Parameters, generator: Noise) -> State:
        """Numbers, and one category drawn from the probabilities of each."""
        return {
            name: categorical(self._log_probs(parameters[name], block), generator)
            if isinstance(block, Categorical)
            else parameters[name]
            for name, block in self.space.blocks.items()
        }

    def _one_hot(self, classes: Tensor, block: Categorical) -> Tensor:
        return F.one_hot(classes, block.max_classes).to(torch.get_default_dtype())

    def _log_probs(self, logits: Tensor, block: Categorical) -> Tensor:
        """Log-probabilities; classes that a position lacks have none."""
        counts = torch.tensor(block.counts).reshape(block.shape)
        lacks = torch.arange(block.max_classes) >= counts[..., None]
        return torch.log_softmax(logits.masked_fill(lacks, -torch.inf), -1)

    def _row(self, blocks: dict[str, Tensor]) -> Tensor:
        dtype = torch.promote_types(torch.get_default_dtype(), next(iter(blocks.values())).dtype)
        return torch.cat([block.reshape(len(block), -1).to(dtype) for block in blocks.values()], 1)
