"""An image model as the parts of a model file, and back."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from clarkia.codecs.descriptions import DescriptionCodec
from clarkia.codecs.image import ImageCodec
from clarkia.errors import DataError
from clarkia.models import files, image_fit, image_parts
from clarkia.models.devices import chosen_device
from clarkia.training import TrainingRun

if TYPE_CHECKING:
    from clarkia.models.image import ImageModel


def write(model: ImageModel, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a model to one file; see `ImageModel.save`."""
    config = {
        "parameters": model.get_params(),
        "codec": model.codec_.to_json(),
        "descriptions": model.descriptions_.to_json(),
        "data": {"rows": model.n_images_, "std": model.data_std_, "shape": list(model.latent_shape_)},
        "training": asdict(model.training_run_),
    }
    weights = model.denoiser_.state_dict()
    files.write_model(path, kind="image", config=config, weights=weights, tables={}, overwrite=overwrite)


def fill(kind: type[ImageModel], parts: files.ModelParts, path: str | os.PathLike[str]) -> ImageModel:
    """The model that the parts of a model file describe.

    Raises:
        DataError: they describe none.
    """
    files.require_kind(parts, "image", path)
    try:
        config = parts.config
        model = kind(**config["parameters"])
        image_parts.check_options(model)
        codec, descriptions = ImageCodec.from_json(config["codec"]), DescriptionCodec.from_json(config["descriptions"])
        data = image_fit.DataFacts(config["data"]["rows"], config["data"]["std"], tuple(config["data"]["shape"]))
        process, denoiser = image_parts.build(data.shape, descriptions.conditions, data.std, model)
        denoiser.load_state_dict(parts.weights)
        model.training_run_ = TrainingRun(**config["training"])
        model.skipped_ = ()
        return model._fitted(codec, descriptions, data, process, denoiser.eval().to(chosen_device(model.device)))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"the model file {path} does not describe an image model; get a fresh copy") from error
