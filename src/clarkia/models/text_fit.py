"""Fitting a text model's networks: rows of tokens, a part to choose weights on, the objectives and the loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clarkia import training
from clarkia.adapters.texts import TextSource
from clarkia.codecs.text import TextCodec
from clarkia.models import text_parts
from clarkia.models.devices import chosen_device
from clarkia.networks.autoregressive import Autoregressive
from clarkia.random import Noise, generator
from clarkia.training.views import Subset

if TYPE_CHECKING:
    from clarkia.models.text import TextModel

State = dict[str, Tensor]

VALIDATION_ROWS = 256
"""Texts that a validation looks at, at the most, each at one draw of masks, the same every time."""

BATCH = 64
"""Texts that go through a network together without gradients."""

SHOWN = 4
"""Texts written while training."""


def split(texts: Any, codec: TextCodec, share: float, seed: int) -> tuple[training.Source, Tensor | None]:
    """Rows to train on, and the tokens of rows to choose weights on, ``(n, length)``, which training never sees.

    Of one long text the end is held out, of documents a random part; nothing where the share is less than a row.
    """
    if not codec.documents:
        source = TextSource(texts, codec, part=(0.0, 1.0 - share), seed=seed)
        if int(source.num_tokens * share / (1 - share)) < codec.length:
            return source, None
        rest = TextSource(texts, codec, part=(1.0 - share, 1.0), places="tiles")
        rows = torch.linspace(0, len(rest) - 1, min(len(rest), VALIDATION_ROWS)).long()
        return source, rest.rows(rows)["tokens"]
    source = TextSource(texts, codec, seed=seed)
    held_out = min(int(len(source) * share), VALIDATION_ROWS)
    if held_out == 0:
        return source, None
    order = torch.randperm(len(source), generator=generator(seed, len(source)))
    held = source.rows(order[:held_out].sort().values)["tokens"]
    return Subset(source, order[held_out:].sort().values), held


def fit_denoiser(
    model: TextModel,
    train: training.Source,
    validation: Tensor | None,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    progress: Any,
    samples: str | os.PathLike[str] | None,
) -> training.TrainingRun:
    """Train a model's denoiser and leave it with the weights of the best validation bound."""
    objective = text_parts.objective(model.process_, model.subset_probability)
    whole = text_parts.objective(model.process_, 0.0)
    length = model.codec_.length

    def loss(module: nn.Module, batch: State, noise: Noise) -> Tensor:
        return objective(module, batch["tokens"], noise) / length

    def nats_per_token(module: nn.Module, part: Tensor, noise: Noise) -> Tensor:
        return -whole.elbo(module, part, noise) / length

    return _fit(model, model.denoiser_, loss, nats_per_token, train, validation, checkpoint, resume, progress, samples)


def fit_companion(
    model: TextModel,
    companion: Autoregressive,
    train: training.Source,
    validation: Tensor | None,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    progress: Any,
) -> training.TrainingRun:
    """Train a model's autoregressive companion likewise."""

    def loss(module: nn.Module, batch: State, noise: Noise) -> Tensor:
        return -module(batch["tokens"]).gather(-1, batch["tokens"][..., None])[..., 0].mean(1)

    def nats_per_token(module: nn.Module, part: Tensor, noise: Noise) -> Tensor:
        return -companion.log_prob(part) / part.shape[1]

    beside = None if checkpoint is None else Path(f"{os.fspath(checkpoint)}.companion")
    return _fit(model, companion, loss, nats_per_token, train, validation, beside, resume, progress, None)


def _fit(
    model: TextModel,
    module: nn.Module,
    loss: Callable[..., Tensor],
    nats_per_token: Callable[[nn.Module, Tensor, Noise], Tensor],
    train: training.Source,
    validation: Tensor | None,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    progress: Any,
    samples: str | os.PathLike[str] | None,
) -> training.TrainingRun:
    device = chosen_device(model.device)
    module.to(device)

    def validate(module: nn.Module) -> float:
        assert validation is not None
        noise = generator(model.seed, 1)
        parts = [nats_per_token(module, part.to(device), noise).cpu() for part in validation.split(BATCH)]
        return float(torch.cat(parts).double().mean())

    return training.fit(
        module,
        loss,
        train,
        options=training_options(model, len(train), device),
        validate=None if validation is None else validate,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
        on_record=None if samples is None else _writer(model, Path(samples)),
    )


def _writer(model: TextModel, folder: Path) -> Callable[[Any, Any], None]:
    """What writes a few texts at every validation."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(module: Any, record: Any) -> None:
        texts = model.sample(SHOWN, seed=model.seed)
        (folder / f"step-{record['step']:07d}.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")

    return write


def training_options(model: TextModel, rows: int, device: torch.device) -> training.TrainingOptions:
    """How a model of these settings is trained on so many rows."""
    fast = device.type != "cpu"
    return training.TrainingOptions(
        batch_size=max(1, min(model.batch_size, rows)),
        optimizer=model.optimizer,
        learning_rate=model.learning_rate,
        weight_decay=0.01,
        betas=(0.9, 0.98),
        max_steps=model.max_steps,
        max_minutes=model.max_minutes,
        validate_every=max(1, min(500, (model.max_steps or 4000) // 8)),
        patience=model.patience,
        precision="bfloat16" if model.precision == "bfloat16" or (model.precision == "auto" and fast) else "float32",
        seed=model.seed,
    )
