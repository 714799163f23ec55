"""Fitting an image model's denoiser: coded pictures, a part to choose weights on, the objective and the loop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from clarkia import training
from clarkia.codecs.descriptions import DescriptionCodec
from clarkia.codecs.image import ImageCodec, to_float
from clarkia.codecs.image.grid import write_grid
from clarkia.measures.likelihood import bits_per_dim, from_levels
from clarkia.models import image_parts
from clarkia.models.devices import chosen_device
from clarkia.models.image_data import Pictures
from clarkia.networks.conditioning import drop
from clarkia.objectives.observed import draw_observed
from clarkia.random import Noise, RowBlocks, generator, rand
from clarkia.spaces import num_rows
from clarkia.training.views import Subset

if TYPE_CHECKING:
    from clarkia.models.image import ImageModel

State = dict[str, Tensor]

VALIDATION_ROWS = 1024
"""Pictures that a validation looks at, at the most; each at one noise level, the same every time."""

BATCH = 256
"""Pictures that go through a network together without gradients."""

SHOWN = 16
"""Pictures of a grid drawn while training."""

DROPPED_OF_SHOWN = 0.5
"""Share of the descriptions withheld of pictures that are shown in part."""

_STATISTICS_ROWS = 2048


@dataclass(frozen=True)
class DataFacts:
    """What a network must know of its data.

    Attributes:
        rows: number of training pictures.
        std: their standard deviation, as the network sees them.
        shape: channels, height and width of what the network sees.
    """

    rows: int
    std: float
    shape: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Coded pictures: ``image`` as bytes (or latents), and the parts of their condition."""

    source: training.Source
    facts: DataFacts


def training_data(
    codec: ImageCodec, descriptions: DescriptionCodec, pictures: Pictures, autoencoder: Any
) -> TrainingData:
    """Code the pictures; those too many for memory are coded when they are wanted."""
    said = descriptions.encode(pictures.attributes, pictures.captions)
    source = pictures.coded(codec, said)
    some = source.rows(torch.linspace(0, len(source) - 1, min(len(source), _STATISTICS_ROWS)).long())
    assert isinstance(some, dict)
    seen = _seen(some["image"], autoencoder)
    std = max(float(seen.double().std(correction=0)), 1e-3)  # pictures of a single tone have none
    channels, height, width = seen.shape[1:]
    return TrainingData(source, DataFacts(len(source), std, (channels, height, width)))


def fit(
    model: ImageModel,
    codec: ImageCodec,
    descriptions: DescriptionCodec,
    data: TrainingData,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    progress: Any,
    samples: str | os.PathLike[str] | None,
) -> training.TrainingRun:
    """Train a model's denoiser and leave it with the weights of the best validation loss."""
    device = chosen_device(model.device)
    process, denoiser = image_parts.build(data.facts.shape, descriptions.conditions, data.facts.std, model)
    denoiser.to(device)
    model._fitted(codec, descriptions, data.facts, process, denoiser)
    objective = image_parts.objective(process, data.facts.std, model.subset_probability)
    train, validation = _split(data.source, model.validation_share, model.seed)

    def loss(module: nn.Module, batch: Any, noise: Noise) -> Tensor:
        x0 = _seen(batch["image"], model.autoencoder)
        if model.flip:
            mirrored = rand((len(x0), 1, 1, 1), noise, device=x0.device) < 0.5
            x0 = torch.where(mirrored, x0.flip(-1), x0)
        shown = draw_observed(objective.observed, x0, noise)
        condition = drop(_condition(batch), _chance_to_drop(model.condition_dropout, shown), noise)
        given = objective if shown is None else replace(objective, observed=lambda x0, noise: shown)
        return given(module, x0, noise, condition)

    def validate(module: nn.Module) -> float:
        assert validation is not None
        noise = generator(model.seed, 1)
        losses = []
        for first in range(0, num_rows(validation), BATCH):
            part = {name: block[first : first + BATCH].to(device) for name, block in validation.items()}
            losses.append(objective(module, _seen(part["image"], model.autoencoder), noise, _condition(part)).cpu())
        return float(torch.cat(losses).double().mean())

    options = training_options(model, len(train), device)
    return training.fit(
        denoiser,
        loss,
        train,
        options=options,
        validate=None if validation is None else validate,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
        on_record=None if samples is None else _sampler_of_grids(model, Path(samples)),
    )


def log_probabilities(
    model: ImageModel, levels: UInt8[Tensor, "n c h w"], given: Mapping[str, Any] | None, seed: int, num_draws: int
) -> NDArray[np.float64]:
    """A lower bound on the log-probability of every picture, nats (n,)."""
    device = next(model.denoiser_.parameters()).device
    scores = []
    for first in range(0, len(levels), BATCH):
        part = levels[first : first + BATCH]
        x, uniform = from_levels(part, 256, dtype=torch.float32)
        condition = model.descriptions_.given(given or {}, len(part))

        def denoiser(x_t: Tensor, t: Tensor, condition: Any = condition) -> Tensor:
            return model.denoiser_(x_t, t, condition)

        with torch.no_grad():
            found = bits_per_dim(
                denoiser,
                model.process_,
                x.to(device),
                method="elbo",
                dequantise=uniform,
                num_draws=num_draws,
                generator=RowBlocks(seed, first, len(part), BATCH),
            )
        scores.append(-found.bits.cpu().numpy() * np.log(2) * x[0].numel())
    return np.concatenate(scores) if scores else np.empty(0)


def _seen(images: Tensor, autoencoder: Any) -> Float[Tensor, "n c h w"]:
    """What the network sees: pictures from -1 to 1, or their latents."""
    x = to_float(images)
    if autoencoder is None:
        return x
    with torch.no_grad():
        return autoencoder.encode(x)


def _condition(batch: State) -> State | None:
    return {name: block for name, block in batch.items() if name != "image"} or None


def _chance_to_drop(least: float, shown: Tensor | None) -> float | Tensor:
    """Of a picture that is shown in part, half the descriptions at least: they would tell what the part is to tell."""
    if shown is None:
        return least
    return torch.where(shown.flatten(1).any(1), max(least, DROPPED_OF_SHOWN), least)


def _split(source: training.Source, share: float, seed: int) -> tuple[training.Source, State | None]:
    """Rows to train on and rows to choose weights on, held out at random; none where their share is less than one."""
    held_out = min(int(len(source) * share), VALIDATION_ROWS)
    if held_out == 0:
        return source, None
    order = torch.randperm(len(source), generator=generator(seed, len(source)))
    held = source.rows(order[:held_out].sort().values)
    assert isinstance(held, dict)
    return Subset(source, order[held_out:].sort().values), held


def _sampler_of_grids(model: ImageModel, folder: Path) -> Any:
    """What writes a grid of samples at every validation."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(module: Any, record: Mapping[str, Any]) -> None:
        images = model.sample(SHOWN, seed=model.seed)
        write_grid(
            images,
            folder / f"step-{record['step']:07d}.png",
            layout="last" if images.ndim == 4 else None,
            overwrite=True,
        )

    return write


def training_options(model: ImageModel, rows: int, device: torch.device) -> training.TrainingOptions:
    """How a model of these settings is trained on so many rows."""
    batch_size = max(1, min(model.batch_size, rows))
    fast = device.type != "cpu"
    return training.TrainingOptions(
        batch_size=batch_size,
        optimizer=model.optimizer,
        learning_rate=model.learning_rate,
        betas=(0.9, 0.99),
        max_steps=model.max_steps,
        max_minutes=model.max_minutes,
        validate_every=max(1, min(500, (model.max_steps or 4000) // 8)),
        patience=model.patience,
        precision="bfloat16" if model.precision == "bfloat16" or (model.precision == "auto" and fast) else "float32",
        seed=model.seed,
    )
