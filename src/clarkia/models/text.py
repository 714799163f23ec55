"""The text estimator: fit texts, then write, continue, fill in and score with the same denoiser."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clarkia import samplers
from clarkia.codecs.text import TextCodec
from clarkia.errors import DataError
from clarkia.models import files, text_files, text_fit, text_parts
from clarkia.models.classify import classify_texts
from clarkia.models.wishes import NUM_PARTICLES, Exactness, Steering
from clarkia.models.writing import Writer, text_rules
from clarkia.random import RowBlocks
from clarkia.samplers.energies import causal_residual


class TextModel(BaseEstimator):
    """A masked diffusion model of text: characters, bytes or byte pairs, any part given any other.

    Args:
        tokens: "char", "byte" or "bpe", byte pairs learned from the texts.
        vocabulary: most byte pairs.
        length: tokens of a text; by default 256, or for documents the longest.
        documents: whether each text (each line of a file, each file of a folder) is a document of its own; by default a
            list and a folder are documents, a text and a file are not.
        width: features of a token.
        depth: blocks of the transformer.
        dropout: share of the features of a block dropped while training.
        companion: fit an autoregressive model of the same size too, for `sample(correction=...)`.
        subset_probability: share of the training texts whose beginning, end or both are shown; prompts need some.
        batch_size: texts of a training step.
        optimizer: "muon"; or "adamw", which learns less of a step, but whose steps are shorter for small networks.
        learning_rate: its peak; by default 0.005 of Muon and 0.001 of AdamW.
        max_minutes: budget of fitting, and again of the companion's.
        max_steps: budget of fitting in steps; with both, the first one reached ends it.
        patience: validations without improvement after which fitting ends; None never ends early.
        validation_share: share of the texts held out to choose the weights: the end of one long text, or random
            documents.
        precision: "float32", "bfloat16", or "auto": bfloat16 on an accelerator.
        device: "auto", an accelerator where there is one, or a torch device.
        seed: fixes everything random in `fit`.

    Attributes (after `fit`):
        codec_: of the texts. process_: the masked process. denoiser_: the trained denoiser, a torch module.
        companion_: the autoregressive model, or None. training_run_, companion_run_: what training did. n_texts_: rows
        of `length` tokens seen.

    Sources: Simple and Effective Masked Diffusion Language Models (2024); Your Absorbing Discrete Diffusion Secretly
    Models the Conditional Distributions of Clean Data (2024); Energy-Based Diffusion Language Models for Text
    Generation (2024).
    """

    def __init__(
        self,
        *,
        tokens: Literal["char", "byte", "bpe"] = "char",
        vocabulary: int = 4096,
        length: int | None = None,
        documents: bool | None = None,
        width: int = 256,
        depth: int = 6,
        dropout: float = 0.0,
        companion: bool = False,
        subset_probability: float = 0.3,
        batch_size: int = 32,
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
        self.tokens = tokens
        self.vocabulary = vocabulary
        self.length = length
        self.documents = documents
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.companion = companion
        self.subset_probability = subset_probability
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
        X: str | os.PathLike[str] | Sequence[str],
        y: None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: Any = False,
        samples: str | os.PathLike[str] | None = None,
    ) -> TextModel:
        """Learn the law of the texts.

        Args:
            X: one long text; a list of documents; or the `Path` of a text file or of a folder of them, which are never
                read whole.
            y: ignored.
            checkpoint: file from which a killed fit can be resumed; a companion's stands beside it.
            resume: continue from the checkpoint where it exists.
            progress: True shows a progress bar on standard error.
            samples: folder for texts written at every validation; it is made.

        Raises:
            DataError: the texts or an option cannot be used.
        """
        text_parts.check_options(self)
        codec = TextCodec.fit(
            X,
            self.tokens,  # type: ignore[arg-type]  # checked above
            length=self.length,
            documents=self.documents,
            num_pieces=self.vocabulary,
        )
        train, validation = text_fit.split(X, codec, self.validation_share, self.seed)
        self.codec_, self.n_texts_, self.companion_, self.companion_run_ = codec, len(train), None, None
        self.process_, self.denoiser_ = text_parts.build(codec.num_classes, codec.length, self)
        self.training_run_ = text_fit.fit_denoiser(self, train, validation, checkpoint, resume, progress, samples)
        if self.companion:
            self.companion_ = text_parts.build_companion(codec.num_classes, codec.length, self)
            self.companion_run_ = text_fit.fit_companion(
                self, self.companion_, train, validation, checkpoint, resume, progress
            )
        return self

    # -------------------------------------------------------------------------------------------- sample

    def sample(
        self,
        n: int = 1,
        *,
        prefix: str | None = None,
        suffix: str | None = None,
        infill: str | None = None,
        at: Mapping[int, str] | None = None,
        constraints: Sequence[str | Callable[[list[str]], Any]] | None = None,
        reward: Callable[[list[str]], Any] | None = None,
        reward_scale: float = 1.0,
        num_particles: int = NUM_PARTICLES,
        exactness: Exactness = "asymptotic",
        seed: int = 0,
        num_steps: int | None = None,
        correction: int = 1,
        solver: samplers.Solver | None = None,
        texts_per_batch: int = 64,
    ) -> list[str]:
        """Write texts, of their law or of a tilt of it.

        Args:
            n: how many.
            prefix: how they begin.
            suffix: how they end.
            infill: the text with holes to be filled: ``[*]`` takes what is left of the length, ``[*12]`` twelve tokens.
            at: texts by the position of their first token; negative positions count from the end.
            constraints: regular expressions that are found in a text, or functions of a list of texts that say which of
                them may be written.
            reward: a function of a list of texts that returns a number each; their law is tilted by
                ``exp(reward_scale * reward)``.
            reward_scale: how much the reward counts.
            num_particles: for constraints and rewards, draws that compete for each text.
            exactness: how constraints and rewards are met: "exact" (constraints alone), "asymptotic" or "heuristic",
                see `TableModel.sample`.
            seed: fixes the draws; text i is the same whatever `n` and `texts_per_batch`.
            num_steps: solver steps; as many as there are tokens reveals one at a time, the default.
            correction: how many candidates the companion chooses among at every step; 1 asks nothing of it. Fewer steps
                then cost less quality.
            solver: instead of ancestral sampling.
            texts_per_batch: how many go through the network together, particles included.

        Returns:
            n texts; of windows, with all their tokens.

        Raises:
            DataError: a prompt that cannot be, a correction without a companion, a number out of its range, a reward
                that is not a finite number a text, or constraints that hardly any text keeps (with an estimate of how
                few).

        Warns:
            CollapseWarning: the weights of the particles rest on very few of them.
        """
        batches = self.sample_batches(
            n, prefix=prefix, suffix=suffix, infill=infill, at=at, constraints=constraints, reward=reward,
            reward_scale=reward_scale, num_particles=num_particles, exactness=exactness, seed=seed,
            num_steps=num_steps, correction=correction, solver=solver, texts_per_batch=texts_per_batch,
        )  # fmt: skip
        return [text for batch in batches for text in batch]

    def sample_batches(
        self,
        n: int,
        *,
        prefix: str | None = None,
        suffix: str | None = None,
        infill: str | None = None,
        at: Mapping[int, str] | None = None,
        seed: int = 0,
        num_steps: int | None = None,
        correction: int = 1,
        solver: samplers.Solver | None = None,
        texts_per_batch: int = 64,
        start: int = 0,
        constraints: Sequence[str | Callable[[list[str]], Any]] | None = None,
        **wishes: Any,
    ) -> Iterator[list[str]]:
        """The texts of `sample` in batches, written as they are asked for; `start` is the number of the first."""
        check_is_fitted(self)
        if min(n, start) < 0 or min(texts_per_batch, correction, 1 if num_steps is None else num_steps) < 1:
            raise DataError(
                "n, start, num_steps, correction and texts_per_batch: expected positive numbers, "
                f"found {n}, {start}, {num_steps}, {correction} and {texts_per_batch}."
            )
        values, known = self.codec_.conditions(prefix=prefix, suffix=suffix, infill=infill, at=at)
        steering = Steering.of(constraints=text_rules(constraints), **wishes)
        writer = Writer(
            self.codec_,
            self.process_,
            self.denoiser_,
            values,
            known,
            num_steps,
            solver or text_parts.solver(self._joint(correction)),
            next(self.denoiser_.parameters()).device,
        )
        size = max(1, texts_per_batch // steering.num_particles) if steering.by_particles else texts_per_batch
        return (
            writer.texts(steering, seed=seed, start=start + first, rows=min(size, n - first), together=texts_per_batch)
            for first in range(0, n, size)
        )

    def classify(self, X: Sequence[str], prefixes: Sequence[str], **options: Any) -> pd.DataFrame:
        """Probabilities of how texts may have begun, by how likely each beginning makes the rest.

        Args:
            X: what follows the beginnings.
            prefixes: the beginnings that are weighed up.
            options: further arguments of `clarkia.models.classify.classify_texts`: prior, num_draws, seed.

        Returns:
            A frame with a row a text and a column a prefix; rows sum to one.

        Raises:
            DataError: fewer than two prefixes, an unknown character, an empty text, or one that does not fit.

        Source: Your Diffusion Model is Secretly a Zero-Shot Classifier (2023).
        """
        return classify_texts(self, X, prefixes, **options)

    def score_samples(self, X: Sequence[str], *, seed: int = 0, num_draws: int = 16) -> NDArray[np.float64]:
        """A lower bound on the log-probability of each text, in nats; the lowest are the most unusual.

        A text of a model of windows may be of any length: it is cut into windows, the last one shorter, each scored by
        itself.

        Args:
            X: the texts.
            seed: fixes the draws of masks.
            num_draws: draws a window; the standard error falls with their square root.

        Returns:
            float64 (n,).

        Raises:
            DataError: a text with an unknown character, an empty one, or one longer than the documents' length.
        """
        check_is_fitted(self)
        windows, owner = self._windows(X)
        bound = text_parts.objective(self.process_, 0.0)
        device = next(self.denoiser_.parameters()).device
        scores = np.zeros(len(X))
        for size, places in _by_length(windows).items():
            for first in range(0, len(places), text_fit.BATCH):
                part = places[first : first + text_fit.BATCH]
                x0 = torch.stack([windows[place] for place in part]).to(device)
                source = RowBlocks(seed, first, len(part), text_fit.BATCH)
                draws = [bound.elbo(self.denoiser_, x0, source).cpu() for _ in range(num_draws)]
                np.add.at(scores, [owner[place] for place in part], torch.stack(draws).mean(0).numpy())
            assert size > 0
        return scores

    def score(self, X: Sequence[str], y: None = None) -> float:
        """Mean of `score_samples`: scikit-learn's score of a density."""
        return float(self.score_samples(X).mean())

    def bits_per_token(self, X: Sequence[str], *, seed: int = 0, num_draws: int = 16) -> float:
        """An upper bound on the bits that a token of these texts costs: a character where `tokens` is "char"."""
        windows, _ = self._windows(X)
        nats = -self.score_samples(X, seed=seed, num_draws=num_draws).sum()
        return float(nats / math.log(2) / sum(map(len, windows)))

    def _joint(self, correction: int) -> samplers.EnergyCorrection | None:
        if correction == 1:
            return None
        if self.companion_ is None:
            raise DataError("correction: this model was fitted without a companion; fit again with companion=True")
        energy = causal_residual(self.companion_.token_log_probs)
        return samplers.EnergyCorrection(energy, num_candidates=correction, window=(1.0, 0.0))

    def _windows(self, X: Sequence[str]) -> tuple[list[Tensor], list[int]]:
        """Rows of tokens and the text that each belongs to."""
        if isinstance(X, str):
            raise DataError("texts: expected a list of texts, found one text; put it into a list.")
        if self.codec_.documents:
            return list(self.codec_.encode(X)["tokens"]), list(range(len(X)))
        windows, owner = [], []
        for row, text in enumerate(X):
            try:
                ids = torch.from_numpy(self.codec_.ids(text).astype(np.int64))
            except DataError as error:
                raise DataError(f"text {row}: {error}") from None
            if not len(ids):
                raise DataError(f"text {row} is empty; leave it out")
            for part in ids.split(self.codec_.length):
                windows.append(part)
                owner.append(row)
        return windows, owner

    # ---------------------------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model to one file.

        Raises:
            DataError: the path exists and `overwrite` is false, or cannot be written.
        """
        check_is_fitted(self)
        text_files.write(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextModel:
        """Read a model that `save` wrote.

        Raises:
            DataError: the file is missing, damaged, altered, of another kind or made by a newer version.
        """
        return cls.from_parts(files.read_model(path), path)

    @classmethod
    def from_parts(cls, parts: files.ModelParts, path: str | os.PathLike[str]) -> TextModel:
        """The model that the parts of a model file describe."""
        return text_files.fill(cls, parts, path)


def _by_length(windows: Sequence[Tensor]) -> dict[int, list[int]]:
    """Places of the windows of each length."""
    found: dict[int, list[int]] = {}
    for place, window in enumerate(windows):
        found.setdefault(len(window), []).append(place)
    return found
