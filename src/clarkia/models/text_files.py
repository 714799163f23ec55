"""A text model as the parts of a model file, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from torch import Tensor

from clarkia.codecs.text import TextCodec
from clarkia.errors import DataError
from clarkia.models import files, text_parts
from clarkia.models.devices import chosen_device
from clarkia.training import TrainingRun

if TYPE_CHECKING:
    from clarkia.models.text import TextModel

DENOISER, COMPANION = "denoiser.", "companion."


def write(model: TextModel, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a model to one file; see `TextModel.save`."""
    config = {
        "parameters": model.get_params(),
        "codec": model.codec_.to_json(),
        "texts": model.n_texts_,
        "training": asdict(model.training_run_),
        "companion": None if model.companion_run_ is None else asdict(model.companion_run_),
    }
    weights = {DENOISER + name: tensor for name, tensor in model.denoiser_.state_dict().items()}
    if model.companion_ is not None:
        weights |= {COMPANION + name: tensor for name, tensor in model.companion_.state_dict().items()}
    files.write_model(path, kind="text", config=config, weights=weights, tables={}, overwrite=overwrite)


def fill(kind: type[TextModel], parts: files.ModelParts, path: str | os.PathLike[str]) -> TextModel:
    """The model that the parts of a model file describe.

    Raises:
        DataError: they describe none.
    """
    files.require_kind(parts, "text", path)
    try:
        config = parts.config
        model = kind(**config["parameters"])
        text_parts.check_options(model)
        codec = TextCodec.from_json(config["codec"])
        model.codec_, model.n_texts_ = codec, config["texts"]
        device = chosen_device(model.device)
        model.process_, denoiser = text_parts.build(codec.num_classes, codec.length, model)
        denoiser.load_state_dict(_under(DENOISER, parts.weights))
        model.denoiser_, model.training_run_ = denoiser.eval().to(device), TrainingRun(**config["training"])
        model.companion_, model.companion_run_ = None, None
        if config["companion"] is not None:
            companion = text_parts.build_companion(codec.num_classes, codec.length, model)
            companion.load_state_dict(_under(COMPANION, parts.weights))
            model.companion_, model.companion_run_ = companion.eval().to(device), TrainingRun(**config["companion"])
        return model
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"the model file {path} does not describe a text model; get a fresh copy") from error


def _under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
