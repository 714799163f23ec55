"""The trained density of residuals: a constraint map, a quantiser and a flow with one base for each kind of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor, nn

from clarkia.measures.fields.checks import check_points
from clarkia.measures.outliers.averages import RunningAverage
from clarkia.measures.outliers.flow import CouplingFlow, sinusoidal_positions
from clarkia.measures.outliers.hypersphere import (
    HypersphereConstraint,
    Shell,
    contraction_loss,
    preservation_loss,
    radius,
)
from clarkia.measures.outliers.matching import VectorQuantiser, match_order_statistics
from clarkia.random import generator as stream
from clarkia.training import TrainingOptions, fit

POSITIONS = 256
QUANTILE = 0.05
BOUNDARY_RATE = 0.1
MARGIN = 0.1
FOCUS = 2.0
CHUNK = 8192

PUBLISHED = {"batch_size": 32, "learning_rate": 1e-5, "weight_decay": 5e-4}
"""The published settings of the training on images, as far as the training loop has them."""

OPTIONS = TrainingOptions(max_steps=2000, batch_size=256, learning_rate=1e-3, weight_decay=5e-4)


class ResidualDensity(nn.Module):
    """The trained parts of one level.

    Args:
        width: Columns of the residuals.
        codes: Starting codes of the quantiser of maps ``(n, d, h, w)``, ``(K, d)``; None for rows ``(n, d)``, which
            have no positions to match.
        blocks: Coupling blocks of the flow.
        relu: Whether the constraint map ends with a ReLU.
        seed: Seed of the flow's mixings.
    """

    step: Tensor

    def __init__(self, width: int, codes: Tensor | None, *, blocks: int, relu: bool, seed: int) -> None:
        super().__init__()
        spatial = codes is not None
        self.constraint = HypersphereConstraint(width, spatial=spatial, relu=relu)
        self.quantiser = None if codes is None else VectorQuantiser(codes)
        self.flow = CouplingFlow(width, condition=POSITIONS if spatial else 0, blocks=blocks, seed=seed)
        self.boundary = RunningAverage(torch.zeros(()), BOUNDARY_RATE)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def densities(self, mapped: Tensor) -> tuple[Tensor, Tensor]:
        """Log-densities of both bases, nats per dimension, for each row of mapped residuals."""
        places = None
        if mapped.ndim == 4:
            places = sinusoidal_positions(mapped.shape[2], mapped.shape[3], POSITIONS).to(mapped)
            places = places.repeat(len(mapped), 1)
        return self.flow.log_probs(as_rows(mapped), places)

    def matched(self, e: Tensor, keep: float) -> Tensor:
        """Maps of residuals with their order statistics moved towards those of their codes; rows stay as they are."""
        if self.quantiser is None:
            return e
        rows = as_rows(e)
        own, coded = (r.unflatten(0, (len(e), -1)) for r in (rows, self.quantiser(rows)))
        return match_order_statistics(own, coded, keep).transpose(1, 2).reshape(e.shape)


@dataclass(frozen=True)
class ResidualFlowLoss:
    """The loss of a `ResidualDensity` for ``training.fit``; batches hold residuals ``"x"`` and marks ``"unusual"``.

    The first steps see usual rows only. Constraint, quantiser and flow are trained side by side, each by terms of its
    own: a flow that could move the map would make all rows the same.

    Args:
        usual_steps: Steps on usual rows only.

    Source: Towards Class Agnostic Anomaly Detection via Residual Feature Learning (2025).
    """

    usual_steps: int

    def __call__(self, module: nn.Module, batch: Any, generator: Any = None) -> dict[str, Tensor]:
        """The terms, each of shape ``(1,)``: the mean over the rows that it is about."""
        if not isinstance(module, ResidualDensity):
            raise ValueError(f"module: expected a ResidualDensity, found {type(module).__name__}.")
        x, unusual = batch["x"], batch["unusual"]
        both = int(module.step) >= self.usual_steps
        usual_items = ~unusual.reshape(len(x), -1).any(1)
        if not both and int(usual_items.sum()) > 1:  # one row alone has no variance to normalise by
            x, unusual = x[usual_items], unusual[usual_items]
        unusual = unusual.reshape(-1)
        e, mapped = as_rows(x), module.constraint(x)
        marked = unusual if both else torch.zeros_like(unusual)
        rows = as_rows(mapped)
        radii = radius(rows)
        shell = Shell.of(radii.detach(), marked)
        terms = {
            "codes": radii.sum() * 0 if module.quantiser is None else _mean(module.quantiser.loss(e), ~unusual),
            "contraction": contraction_loss(radii[~unusual], shell),
            "preservation": preservation_loss(rows[marked], e[marked], shell),
        }
        usual, other = module.densities(mapped.detach())
        if module.training:
            module.step += 1
            if bool((~unusual).any()):
                module.boundary.update(usual[~unusual].detach().quantile(QUANTILE))
        terms |= flow_terms(usual, other, unusual, float(module.boundary()), both=both)
        return {name: term.reshape(1) for name, term in terms.items()}


def flow_terms(usual: Tensor, other: Tensor, unusual: Tensor, boundary: float, *, both: bool) -> dict[str, Tensor]:
    """The losses of the flow.

    Args:
        usual: Log-density of the usual base at each row, nats per dimension ``(n,)``.
        other: The same of the unusual base.
        unusual: Which rows are unusual, ``(n,)``.
        boundary: Running 5 % quantile of the log-density of usual rows.
        both: Whether unusual rows count yet; before, all terms but the first are 0.

    Returns:
        ``"likelihood"``: mean ``-log sigmoid`` of each row's own log-density; ``"focal"``: focal loss of telling the
        bases apart; ``"boundary"``: mean softplus of how far usual rows are below the boundary, and of how far unusual
        rows are above a boundary 0.1 lower, over the rows on the wrong side.
    """
    likelihood = _mean(-F.logsigmoid(usual), ~unusual)
    if not both:
        return {"likelihood": likelihood, "focal": usual.sum() * 0, "boundary": usual.sum() * 0}
    log_p = torch.stack([usual, other], 1).log_softmax(1)
    right = log_p.gather(1, unusual.long()[:, None]).squeeze(1)
    below, above = boundary - usual, usual - (boundary - MARGIN)
    return {
        "likelihood": likelihood + _mean(-F.logsigmoid(other), unusual),
        "focal": (-((1 - right.exp()) ** FOCUS) * right).mean(),
        "boundary": _mean(F.softplus(below), ~unusual & (below > 0)) + _mean(F.softplus(above), unusual & (above > 0)),
    }


@dataclass(frozen=True)
class ResidualFlow:
    """Density of residuals by constraint map and flow, trained on usual and unusual rows of known classes.

    Args:
        blocks: Coupling blocks.
        codes: Codes of the quantiser, which maps of residuals are brought closer to.
        keep: Share of a map's own order statistics; rows without positions are not matched.
        relu: Whether the constraint map ends with the ReLU that is published for squared residuals. Signed ones cannot
            be kept what they are by a map without negative values.
        usual_share: Share of the steps that see usual rows only.
        options: Settings of the training; its seed also draws the starting weights.

    Source: Towards Class Agnostic Anomaly Detection via Residual Feature Learning (2025).
    """

    blocks: int = 10
    codes: int = 1536
    keep: float = 0.4
    relu: bool = True
    usual_share: float = 0.1
    options: TrainingOptions = OPTIONS

    def fit(self, features: Any, labels: Any = None, *, unusual: Any = None) -> FittedResidualFlow:
        """Train on residuals.

        Args:
            features: Residuals ``(n, d)``, or maps of them ``(n, d, h, w)``.
            labels: Not looked at.
            unusual: Which rows ``(n,)`` or positions ``(n, h, w)`` are unusual; None for none.

        Raises:
            ValueError: Residuals that are not finite, marks of another shape, no usual row.
        """
        x = check_points(features, "features").float()
        shape = (len(x), *x.shape[2:])
        marks = torch.zeros(shape, dtype=torch.bool) if unusual is None else torch.as_tensor(unusual, dtype=torch.bool)
        if x.ndim not in (2, 4) or marks.shape != shape or bool(marks.all()):
            raise ValueError(f"unusual: expected marks of shape {shape} for residuals (n, d) or (n, d, h, w), not all "
                             f"true, found {tuple(marks.shape)}.")  # fmt: skip
        seed = self.options.seed
        codes = None
        if x.ndim == 4:
            codes = VectorQuantiser.codes_of(as_rows(x)[~marks.reshape(-1)], self.codes, generator=stream(seed, 2))
        with torch.random.fork_rng([]):
            torch.manual_seed(stream(seed, 1).initial_seed())
            model = ResidualDensity(x.shape[1], codes, blocks=self.blocks, relu=self.relu, seed=seed)
        loss = ResidualFlowLoss(int(self.usual_share * (self.options.max_steps or 0)))
        fit(model, loss, {"x": x, "unusual": marks}, options=self.options, progress=False)
        fitted = FittedResidualFlow(self, model, 0.0)
        return replace(fitted, maximum=float(fitted.log_probs(x)[0][~marks].max()))


@dataclass(frozen=True, eq=False)
class FittedResidualFlow:
    """A trained density of residuals.

    Attributes:
        settings: The scorer that was fitted.
        model: The trained parts, in evaluation mode.
        maximum: Largest log-density per dimension of the usual rows that scores are relative to.
    """

    settings: ResidualFlow
    model: ResidualDensity
    maximum: float

    def refer(self, features: Any) -> FittedResidualFlow:
        """The same density with scores relative to these usual residuals."""
        return replace(self, maximum=float(self.log_probs(features)[0].max()))

    @torch.no_grad()
    def log_probs(self, features: Any) -> tuple[Float64[Tensor, "n ..."], Float64[Tensor, "n ..."]]:
        """Log-densities of the usual and of the unusual base, nats per dimension, ``(n,)`` or ``(n, h, w)``."""
        x = check_points(features, "features").float()
        if x.shape[1] != self.model.flow.width:
            raise ValueError(f"features: expected {self.model.flow.width} columns as were fitted, found {x.shape[1]}.")
        found = []
        for part in x.split(CHUNK if x.ndim == 2 else max(1, CHUNK // (x.shape[2] * x.shape[3]))):
            mapped = self.model.constraint(self.model.matched(part, self.settings.keep))
            found.append([d.double().reshape(len(part), *x.shape[2:]) for d in self.model.densities(mapped)])
        usual, other = zip(*found, strict=True)
        return torch.cat(usual), torch.cat(other)

    def score(self, features: Any) -> Float64[Tensor, "n ..."]:
        """Mean of ``1 - exp(log p - maximum)`` and of the probability of being unusual, for each row or position."""
        usual, other = self.log_probs(features)
        return 0.5 * (1 - (usual - self.maximum).exp() + (other - usual).sigmoid())


def as_rows(x: Tensor) -> Tensor:
    """Maps ``(n, d, h, w)`` as rows ``(n h w, d)``, position by position; rows as they are."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) if x.ndim == 4 else x


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean over the marked rows; 0 where there are none."""
    return torch.where(where, values, 0.0).sum() / where.sum().clamp(min=1)
