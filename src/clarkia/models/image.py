"""The image estimator: fit pictures, then sample, condition, fill in and score with the same denoiser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from clarkia import samplers
from clarkia.codecs.descriptions import DescriptionCodec
from clarkia.codecs.image import ImageCodec
from clarkia.denoisers import Preconditioned
from clarkia.errors import DataError
from clarkia.models import files, image_files, image_fit, image_parts
from clarkia.models.classify import classify_images
from clarkia.models.image_data import gathered
from clarkia.models.pictures import PictureSampler, of_rows
from clarkia.models.wishes import NUM_PARTICLES, Exactness, Steering, check_steps
from clarkia.processes import Gaussian


class ImageModel(BaseEstimator):
    """A diffusion model of pictures: any size divisible by 8, with classes, attributes or captions.

    Args:
        size: side of the pictures in points; by default the most common one of the training pictures.
        mode: "L" (grey) or "RGB"; by default grey where all pictures are.
        network: "unet", convolutions; "dit" or "uvit", transformers over patches.
        width: channels of a U-Net's first level (default 32 times the patch), or features of a token (default 192).
        depth: residual blocks a level of a U-Net (default 2), or blocks of a transformer (default 8).
        patch: side of the patches that a network works on; by default, of a U-Net 1 up to 16 points and 2 above, of a
            transformer 2 up to 32 points and 4 above.
        dropout: share of the features of a block dropped while training (U-Net).
        process: "flow", rectified, or "edm", variance exploding, each with noise levels of its own to train at: the
            flow's reach higher, where it is decided what a picture shows; EDM's give tighter `score_samples`.
        condition_dropout: share of the training pictures whose description is withheld; guidance needs some.
        subset_probability: share of the training pictures shown in part; filling in needs some.
        flip: show every second picture mirrored while training.
        batch_size: pictures of a training step.
        optimizer: "muon"; or "adamw", which learns less of a step, but whose steps are shorter for small networks.
        learning_rate: its peak; by default 0.005 of Muon and 0.001 of AdamW.
        max_minutes: budget of fitting.
        max_steps: budget of fitting in steps; with both, the first one reached ends it.
        patience: validations without improvement after which fitting ends; None never ends early.
        validation_share: share of the pictures held out to choose the weights.
        precision: "float32", "bfloat16", or "auto": bfloat16 on an accelerator.
        device: "auto", an accelerator where there is one, or a torch device.
        seed: fixes everything random in `fit`.

    Attributes (after `fit`):
        codec_: of the pictures. descriptions_: of what is said of them. process_: the Gaussian process. denoiser_: the
        trained denoiser, a torch module. data_std_: deviation of the training pictures. training_run_: what the
        training did. n_images_: pictures seen.

    The option `autoencoder`, an attribute to be set before `fit` and after `load`, makes the model one of latents: an
    object with ``encode(pictures)`` and ``decode(latents)`` on float tensors ``(n, c, h, w)``, pictures from -1 to 1.

    Sources: Elucidating the Design Space of Diffusion-Based Generative Models (2022); Flow Straight and Fast: Learning
    to Generate and Transfer Data with Rectified Flow (2022).
    """

    autoencoder: Any = None

    def __init__(
        self,
        *,
        size: int | None = None,
        mode: Literal["L", "RGB"] | None = None,
        network: Literal["unet", "dit", "uvit"] = "unet",
        width: int | None = None,
        depth: int | None = None,
        patch: int | None = None,
        dropout: float = 0.0,
        process: Literal["flow", "edm"] = "flow",
        condition_dropout: float = 0.1,
        subset_probability: float = 0.2,
        flip: bool = False,
        batch_size: int = 64,
        optimizer: Literal["muon", "adamw"] = "muon",
        learning_rate: float | None = None,
        max_minutes: float | None = 30.0,
        max_steps: int | None = None,
        patience: int | None = None,
        validation_share: float = 0.05,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        device: str = "auto",
        seed: int = 0,
    ):
        self.size = size
        self.mode = mode
        self.network = network
        self.width = width
        self.depth = depth
        self.patch = patch
        self.dropout = dropout
        self.process = process
        self.condition_dropout = condition_dropout
        self.subset_probability = subset_probability
        self.flip = flip
        self.batch_size = batch_size
        self.optimizer: Literal["muon", "adamw"] = optimizer
        self.learning_rate = learning_rate
        self.max_minutes = max_minutes
        self.max_steps = max_steps
        self.patience = patience
        self.validation_share = validation_share
        self.precision = precision
        self.device = device
        self.seed = seed

    # ----------------------------------------------------------------------------------------------- fit

    def fit(
        self,
        X: Any,
        y: Sequence[Any] | None = None,
        *,
        attributes: Mapping[str, Sequence[Any]] | str | os.PathLike[str] | None = None,
        captions: Sequence[str | None] | str | os.PathLike[str] | None = None,
        strict: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: Any = False,
        samples: str | os.PathLike[str] | None = None,
    ) -> ImageModel:
        """Learn the law of the pictures, and of pictures given what is said of them.

        Args:
            X: a folder; an array ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)`` of uint8 or of floating numbers
                from 0 to 1; or a list of files or of Pillow images.
            y: a class a picture, None where it is not known. A folder sorted into classes brings its own.
            attributes: further classes, by name, a value a picture; of a folder, a table with a column ``file`` and one
                for each. A folder with ``attributes.csv`` brings its own.
            captions: a sentence a picture; of a folder, a table with the columns ``file`` and ``caption``. A folder
                with ``captions.csv``, or a text file beside each picture, brings its own.
            strict: refuse a file that is damaged or no picture, rather than leave it out.
            checkpoint: file from which a killed fit can be resumed.
            resume: continue from the checkpoint where it exists.
            progress: True shows a progress bar on standard error.
            samples: folder for a grid of samples at every validation; it is made.

        Raises:
            DataError: the pictures, what is said of them or an option cannot be used.
        """
        image_parts.check_options(self)
        pictures = gathered(X, y, attributes, captions, strict=strict)
        codec = ImageCodec.fit(pictures.images, size=self.size, mode=self.mode)  # type: ignore[arg-type]
        descriptions = DescriptionCodec.fit(pictures.attributes, pictures.captions)
        data = image_fit.training_data(codec, descriptions, pictures, self.autoencoder)
        self.skipped_ = pictures.skipped
        self.training_run_ = image_fit.fit(self, codec, descriptions, data, checkpoint, resume, progress, samples)
        return self

    def _fitted(
        self,
        codec: ImageCodec,
        descriptions: DescriptionCodec,
        data: image_fit.DataFacts,
        process: Gaussian,
        denoiser: Preconditioned,
    ) -> ImageModel:
        self.codec_, self.descriptions_, self.data_std_, self.latent_shape_ = codec, descriptions, data.std, data.shape
        self.n_images_, self.process_, self.denoiser_ = data.rows, process, denoiser
        return self

    # -------------------------------------------------------------------------------------------- sample

    def sample(
        self,
        n: int = 1,
        *,
        given: Mapping[str, Any] | None = None,
        constraints: Sequence[Callable[[NDArray[np.uint8]], Any]] | None = None,
        reward: Callable[[NDArray[np.uint8]], Any] | None = None,
        reward_scale: float = 1.0,
        num_particles: int = NUM_PARTICLES,
        exactness: Exactness = "asymptotic",
        seed: int = 0,
        num_steps: int | None = None,
        guidance_scale: float = 0.0,
        solver: samplers.Solver | None = None,
        images_per_batch: int = 64,
    ) -> NDArray[np.uint8]:
        """Draw pictures, of their law or of a tilt of it.

        Args:
            n: how many.
            given: what is to be said of them: a value of "class" or of another attribute, or a sentence as "caption";
                or a list of n of them.
            constraints: functions of an array of pictures that say which of them may be drawn.
            reward: a function of an array of pictures that returns a number each; their law is tilted by
                ``exp(reward_scale * reward)``.
            reward_scale: how much the reward counts.
            num_particles: for constraints and rewards, draws that compete for each picture.
            exactness: how constraints and rewards are met: "exact" (constraints alone), "asymptotic" or "heuristic",
                see `TableModel.sample`.
            seed: fixes the draws; picture i is the same whatever `n` and `images_per_batch`.
            num_steps: solver steps; each of the default solver's is one evaluation of the network.
            guidance_scale: classifier-free guidance towards `given`.
            solver: instead of DPM-Solver++(2M), or for particles of its stochastic form.
            images_per_batch: how many go through the network together, particles included.

        Returns:
            uint8 ``(n, h, w)``, or ``(n, h, w, 3)`` for colour.

        Raises:
            DataError: something is asked that the model was not told, a number is out of its range, a reward is not a
                finite number a picture, or constraints hold for hardly any picture (with an estimate of how few).

        Warns:
            CollapseWarning: the weights of the particles rest on very few of them.
        """
        batches = self.sample_batches(
            n, given=given, constraints=constraints, reward=reward, reward_scale=reward_scale,
            num_particles=num_particles, exactness=exactness, seed=seed, num_steps=num_steps,
            guidance_scale=guidance_scale, solver=solver, images_per_batch=images_per_batch,
        )  # fmt: skip
        drawn = list(batches)
        return np.concatenate(drawn) if drawn else self.codec_.decode(torch.empty(0, *self.codec_.space.shape))

    def sample_batches(
        self,
        n: int,
        *,
        given: Mapping[str, Any] | None = None,
        seed: int = 0,
        num_steps: int | None = None,
        guidance_scale: float = 0.0,
        solver: samplers.Solver | None = None,
        images_per_batch: int = 64,
        start: int = 0,
        **wishes: Any,
    ) -> Iterator[NDArray[np.uint8]]:
        """The pictures of `sample` in batches, made as they are asked for; `start` is the number of the first."""
        check_is_fitted(self)
        if n < 0 or start < 0 or images_per_batch < 1:
            found = f"{n} from {start} on, {images_per_batch} a batch"
            raise DataError(f"n: expected zero or a positive number of pictures, found {found}.")
        self.descriptions_.given(given or {}, n)  # refuses what cannot be asked, before the first batch is drawn
        sampler, steering = self._sampler(num_steps, guidance_scale, solver), Steering.of(**wishes)
        size = max(1, images_per_batch // steering.num_particles) if steering.by_particles else images_per_batch

        def batch(first: int) -> NDArray[np.uint8]:
            rows = min(size, n - first)
            asked = of_rows(given, np.arange(first, first + rows))
            return sampler.wished(asked, steering, seed=seed, start=start + first, rows=rows, together=images_per_batch)

        return (batch(first) for first in range(0, n, size))

    def impute(
        self,
        X: Any,
        mask: Any,
        *,
        given: Mapping[str, Any] | None = None,
        seed: int = 0,
        num_steps: int | None = None,
        guidance_scale: float = 0.0,
        solver: samplers.Solver | None = None,
        images_per_batch: int = 64,
    ) -> NDArray[np.uint8]:
        """Fill in parts of pictures by a draw from their law given the rest.

        Args:
            X: pictures, as of `fit`.
            mask: bool ``(n, h, w)`` or ``(h, w)`` at the model's size, True where a point is to be filled in.
            given: as in `sample`, like the other arguments.
            seed: fixes the draws; another seed gives another filling.
            num_steps: solver steps.
            guidance_scale: guidance towards `given`.
            solver: instead of DPM-Solver++(2M).
            images_per_batch: how many go through the network together.

        Returns:
            The pictures at the model's size; points that were known are unchanged.

        Raises:
            DataError: a mask of another shape, or a model of latents, which has no points.
        """
        check_is_fitted(self)
        if self.autoencoder is not None:
            raise DataError("impute: a model of latents cannot hold points fixed; fit one without an autoencoder")
        levels = self.codec_.encode(X)
        holes = torch.as_tensor(np.asarray(mask), dtype=torch.bool)
        try:
            holes = holes.expand(len(levels), *levels.shape[2:])[:, None]
        except RuntimeError:
            side = self.codec_.size
            raise DataError(
                f"mask: expected shape ({side}, {side}) or one a picture, found {tuple(holes.shape)}."
            ) from None
        sampler = self._sampler(num_steps, guidance_scale, solver)
        parts = [
            sampler.filled(
                levels[first : first + images_per_batch],
                holes[first : first + images_per_batch],
                of_rows(given, np.arange(first, min(first + images_per_batch, len(levels)))),
                seed=seed,
                start=first,
            )
            for first in range(0, len(levels), images_per_batch)
        ]
        return np.concatenate(parts) if parts else self.codec_.decode(levels)

    def score_samples(
        self, X: Any, *, given: Mapping[str, Any] | None = None, seed: int = 0, num_draws: int = 16
    ) -> NDArray[np.float64]:
        """A lower bound on how likely each picture is, in nats; the lowest are the most unusual.

        The bound is on the density of points of 256 levels spread from -1 to 1 with uniform noise within a level, less
        the levels' width: a bound on the probability of the picture.

        Args:
            X: pictures, as of `fit`.
            given: likelihood given what is said of them, as in `sample`.
            seed: fixes the corruption draws.
            num_draws: draws a picture; the standard error falls with their square root.

        Returns:
            float64 (n,); divide by ``-log(2)`` times the number of points and channels for bits per dimension.

        Raises:
            DataError: a model of latents, whose densities are not those of pictures.
        """
        check_is_fitted(self)
        if self.autoencoder is not None:
            raise DataError("score_samples: latents have no likelihood of pictures; fit a model without an autoencoder")
        levels = self.codec_.encode(X)
        return image_fit.log_probabilities(self, levels, given, seed, num_draws)

    def score(self, X: Any, y: None = None) -> float:
        """Mean of `score_samples`: scikit-learn's score of a density."""
        return float(self.score_samples(X).mean())

    def classify(self, X: Any, attribute: str = "class", **options: Any) -> pd.DataFrame:
        """Probabilities of what may be said of pictures, by how well the model restores them when it is told so.

        Args:
            X: pictures, as of `fit`.
            attribute: what is asked: "class", another attribute, or "caption".
            options: further arguments of `clarkia.models.classify.classify_images`: candidates, given, prior,
                num_draws, seed.

        Returns:
            A frame with a row a picture and a column a candidate; rows sum to one.

        Raises:
            DataError: an attribute or a candidate that the model does not know, or captions without candidates.

        Source: Your Diffusion Model is Secretly a Zero-Shot Classifier (2023).
        """
        return classify_images(self, X, attribute, **options)

    def _sampler(self, num_steps: int | None, guidance_scale: float, solver: samplers.Solver | None) -> PictureSampler:
        check_steps(num_steps)
        return PictureSampler(
            self.codec_,
            self.descriptions_,
            self.process_,
            self.denoiser_,
            self.latent_shape_,
            self.autoencoder,
            num_steps,
            guidance_scale,
            solver,
        )

    # ---------------------------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model to one file; an autoencoder stays outside.

        Raises:
            DataError: the path exists and `overwrite` is false, or cannot be written.
        """
        check_is_fitted(self)
        image_files.write(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ImageModel:
        """Read a model that `save` wrote.

        Raises:
            DataError: the file is missing, damaged, altered, of another kind or made by a newer version.
        """
        return cls.from_parts(files.read_model(path), path)

    @classmethod
    def from_parts(cls, parts: files.ModelParts, path: str | os.PathLike[str]) -> ImageModel:
        """The model that the parts of a model file describe."""
        return image_files.fill(cls, parts, path)
