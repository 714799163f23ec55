"""The table estimator: fit a frame, then sample, condition, impute and score with the same denoiser."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from clarkia import samplers
from clarkia.adapters.frames import from_arrow, to_arrow
from clarkia.codecs import Missing, TableCodec
from clarkia.codecs.constraints import RuleEncoding, parse_rules
from clarkia.errors import DataError
from clarkia.models import architecture, files, filling, predictions, queries, table_files, table_scores
from clarkia.models.questions import Question
from clarkia.models.rows import ROWS_PER_EVALUATION, RowSampler
from clarkia.models.steered import PILOT
from clarkia.models.table_fit import encode, fit_denoiser, split_rows
from clarkia.models.wishes import NUM_PARTICLES, Exactness, check_steps
from clarkia.training import TrainingOptions


class TableModel(BaseEstimator):
    """A diffusion model of a table: mixed types, missing values, any question about any subset of its columns.

    Args:
        roles: declared roles of columns ("categorical", "integer", "real", "date", "key", "drop", ...); the others are
            inferred.
        target: the column that reports predict; kept with the model, otherwise a column like any other.
        constraints: rules that every row keeps, as text, see `clarkia.codecs.constraints.parse_rule`: sums, orders and
            linked columns are built into what is learned, others are seen to when rows are drawn.
        network: "mlp", a residual MLP; "tabdiff", the network of the paper; or "fields", a transformer with a token a
            cell.
        width: width of the network; by default 384 for "mlp", 1024 for "tabdiff", 128 for "fields".
        depth: blocks of "mlp" and "fields".
        dropout: share of hidden units dropped while training ("mlp", "fields").
        groups: parts of equal mass that the continuous values of a numeric column are cut into, each a class of its own
            with a continuous residual; by default one for every 100 rows, at most 64; 1 is the classical coding.
        schedule: "fixed", or "learned", a noise schedule a column, trained as in the paper.
        subset_probability: share of training rows that show random columns; 0 trains only the joint law.
        batch_size: rows of a training step.
        learning_rate: its peak.
        max_minutes: budget of fitting.
        max_steps: budget of fitting; by default 75 passes over the rows, at least 2,000 and at most 20,000 steps.
        patience: validations without improvement after which fitting ends; None never ends early.
        validation_share: share of the rows held out to choose the weights.
        precision: "float32", "bfloat16", or "auto": bfloat16 where the processor has instructions for it.
        seed: fixes everything random in `fit`.

    Attributes (after `fit`):
        codec_: the codec of the table, its columns changed by the rules. rules_: these. process_: the mixed process.
        denoiser_: the trained denoiser, a torch module. training_run_: what the training did. n_rows_: rows seen.
        n_features_in_, feature_names_in_: the columns.

    Source: TabDiff: a Mixed-type Diffusion Model for Tabular Data Generation (2024), with numeric columns coded as
    levels and training on any subset of observed columns.
    """

    def __init__(
        self,
        *,
        roles: Mapping[str, str] | None = None,
        target: str | None = None,
        constraints: Sequence[Any] | None = None,
        network: Literal["mlp", "tabdiff", "fields"] = "mlp",
        width: int | None = None,
        depth: int = 3,
        dropout: float = 0.0,
        groups: int | None = None,
        schedule: Literal["fixed", "learned"] = "fixed",
        subset_probability: float = 0.5,
        batch_size: int = 1024,
        learning_rate: float = 3e-3,
        max_minutes: float | None = 15.0,
        max_steps: int | None = None,
        patience: int | None = 8,
        validation_share: float = 0.05,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        seed: int = 0,
    ):
        self.roles = roles
        self.target = target
        self.constraints = constraints
        self.network = network
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.groups = groups
        self.schedule = schedule
        self.subset_probability = subset_probability
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_minutes = max_minutes
        self.max_steps = max_steps
        self.patience = patience
        self.validation_share = validation_share
        self.precision = precision
        self.seed = seed

    # ----------------------------------------------------------------------------------------------- fit

    def fit(
        self,
        X: Any,
        y: None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: Any = False,
    ) -> TableModel:
        """Learn the law of the rows.

        Args:
            X: a pandas, polars or pyarrow table with at least two columns and two rows; samples come back alike.
            y: ignored; a target is a column of X.
            checkpoint: file from which a killed fit can be resumed.
            resume: continue from the checkpoint where it exists.
            progress: True shows a progress bar on standard error.

        Raises:
            DataError: the table, a column or an option cannot be used.
        """
        architecture.check_options(self)
        table = to_arrow(X, self.roles)
        if self.target is not None and self.target not in table.column_names:
            raise DataError(f"target: the table has no column {self.target!r}, only {', '.join(table.column_names)}.")
        groups = self.groups or int(np.clip(table.num_rows // 100, 1, 64))
        rules = RuleEncoding.fit(table, parse_rules(self.constraints))
        changed = rules.forward(table)
        codec = TableCodec.fit(changed, rules.roles(self.roles or {}), groups=groups)
        process, denoiser = architecture.build(codec, self)
        state = encode(codec, changed, self.seed)
        train, validation = split_rows(state, self.validation_share, self.seed)
        options = self._training_options(len(next(iter(train.values()))))
        self.training_run_ = fit_denoiser(
            denoiser, process, codec, train, validation, options, self.subset_probability, checkpoint, resume, progress
        )
        self._like = X.slice(0, 0) if isinstance(X, pa.Table | pa.RecordBatch) else X.head(0)
        rules = rules.without(codec.dropped)
        return self._fitted(codec, rules, process, denoiser, table.num_rows, table.column_names)

    def _training_options(self, rows: int) -> TrainingOptions:
        batch_size = max(1, min(self.batch_size, rows // 2))
        steps = self.max_steps or int(np.clip(75 * rows // batch_size, 2000, 20_000))
        return TrainingOptions(
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            weight_decay=0.01,
            betas=(0.9, 0.99),
            max_steps=steps,
            max_minutes=self.max_minutes,
            validate_every=max(1, min(250, steps // 8)),
            patience=self.patience,
            seed=self.seed,
        )

    def _fitted(
        self, codec: TableCodec, rules: RuleEncoding, process: Any, denoiser: Any, rows: int, names: list[str]
    ) -> TableModel:
        self.codec_, self.rules_, self.process_, self.denoiser_, self.n_rows_ = codec, rules, process, denoiser, rows
        self.feature_names_in_, self.n_features_in_ = np.array(names, dtype=object), len(names)
        return self

    # -------------------------------------------------------------------------------------------- sample

    def sample(
        self,
        n: int,
        *,
        given: Mapping[str, Any] | None = None,
        where: str | None = None,
        constraints: Sequence[Any] | None = None,
        reward: Callable[[Any], Any] | str | None = None,
        reward_scale: float = 1.0,
        num_particles: int = NUM_PARTICLES,
        exactness: Exactness = "asymptotic",
        complete: bool = False,
        seed: int = 0,
        num_steps: int | None = None,
        guidance_scale: float = 0.0,
        solver: samplers.Mixed | None = None,
    ) -> Any:
        """Draw rows, of the whole law, of its part that meets conditions, or of a tilt of it.

        Args:
            n: number of rows.
            given: by column a value, None for missing, a list of allowed values, or a condition of
                `clarkia.codecs.conditions`.
            where: conditions as text, ``"income = '>50K' and age between 30 and 40"``.
            constraints: rules that rows keep: texts, see `clarkia.codecs.constraints.parse_rule`, or functions of a
                frame that say which rows keep them. A row keeps no rule that depends on a cell it misses.
            reward: what rows should earn, with their law tilted by ``exp(reward_scale * reward)``: a function of a
                frame that returns a number a row, or a sum of columns such as ``"income - 0.5 * rent"``, in units of
                its standard deviation.
            reward_scale: how much the reward counts; a negative one asks for little of it.
            num_particles: for constraints and rewards, draws that compete for each row.
            exactness: how constraints and rewards are met. "exact": whole draws are rejected until they keep the
                constraints, which is exact under the model; there is no reward then. "asymptotic": a row is one of its
                particles, in proportion to their weights, which has the law asked for in the limit of many particles.
                "heuristic": the particle of the highest reward, whose law nobody knows. Constraints hold in all three,
                and conditions on columns need none of them.
            complete: fill the cells that come out missing, as `impute` does.
            seed: row i is a function of the seed and i, whatever n.
            num_steps: solver steps; by default four more than there are categorical positions, at least 24.
            guidance_scale: classifier-free guidance towards the conditions; 0 samples the law itself.
            solver: by default DPM-Solver++(2M) in lock-step with masked sampling in random order; for particles, its
                stochastic form.

        Returns:
            A frame of the kind that was fitted, with its columns and types.

        Raises:
            DataError: an unknown column, a value never seen, conditions or constraints that hardly any row meets (with
                an estimate of how few), a reward that is not a finite number a row.

        Warns:
            CollapseWarning: the weights of the particles rest on very few of them.
            UserWarning: bounds are so narrow that some rows met no draw, so that numbers within them were drawn without
                regard to the other columns.
        """
        batches = self.sample_batches(
            n, given=given, where=where, constraints=constraints, reward=reward, reward_scale=reward_scale,
            num_particles=num_particles, exactness=exactness, complete=complete, seed=seed, num_steps=num_steps,
            guidance_scale=guidance_scale, solver=solver,
        )  # fmt: skip
        tables = list(batches)
        whole = pa.concat_tables(tables) if tables else self.rules_.schema.empty_table()
        return from_arrow(whole, self._like)

    def sample_batches(
        self,
        n: int,
        *,
        complete: bool = False,
        seed: int = 0,
        num_steps: int | None = None,
        guidance_scale: float = 0.0,
        solver: samplers.Mixed | None = None,
        rows_per_batch: int = ROWS_PER_EVALUATION,
        start: int = 0,
        **asked: Any,
    ) -> Iterator[pa.Table]:
        """The rows of `sample` as Arrow tables of at most `rows_per_batch` rows, made as they are asked for.

        `start` is the number of the first row: processes that draw parts of one sample begin at different ones. What is
        `asked` and all other arguments are those of `sample`.
        """
        check_is_fitted(self)
        if n < 0 or start < 0 or rows_per_batch < 1:
            raise DataError(
                "n, start and rows_per_batch: expected zero or a positive number of rows, from a row on, and at least "
                f"one a batch, found {n}, {start} and {rows_per_batch}."
            )
        sampler = self._sampler(num_steps, guidance_scale, solver)
        question = Question.of(
            self.rules_, self._like, plain=lambda: sampler.plain({}, False, 0, np.arange(PILOT)), **asked
        )
        empty = [name for name, condition in question.conditions.items() if isinstance(condition, Missing)]
        if complete and empty:
            raise DataError(
                f"complete: expected no empty cell, but {empty[0]!r} was asked to be; leave one of them out."
            )
        if queries.clues(self.codec_, question.conditions):  # refuses what cannot be asked, before the first batch
            self._warn_of_untrained_queries()
        size = max(1, rows_per_batch // question.num_particles) if question.by_particles else rows_per_batch
        return (
            sampler.table(question, complete=complete, seed=seed, start=start + first, rows=min(size, n - first))
            for first in range(0, n, size)
        )

    def _sampler(self, num_steps: int | None, guidance_scale: float, solver: samplers.Mixed | None) -> RowSampler:
        check_steps(num_steps)
        return RowSampler(self.codec_, self.process_, self.denoiser_, num_steps, guidance_scale, solver, self.rules_)

    # ------------------------------------------------------------------------------------ impute and score

    def impute(
        self, X: Any, *, seed: int = 0, num_steps: int | None = None, solver: samplers.Mixed | None = None
    ) -> Any:
        """Fill every empty cell by a draw from its law given the cells of its row that are there.

        Args:
            X: a frame with the model's columns; absent columns are filled whole.
            seed: fixes the draws; another seed gives another imputation.
            num_steps: solver steps, as in `sample`.
            solver: as in `sample`.

        Returns:
            A frame of the same kind; cells that were there are unchanged bit for bit, and the model's rules are kept. A
            cell stays empty where a rule wants it so, or where training had nothing but an empty one beside what is
            linked with it.

        Raises:
            DataError: a cell holds a value that was never seen, a column has another type, or a row breaks a rule of
                the model, has too many holes for one, or is hardly ever drawn so that it keeps it.
        """
        check_is_fitted(self)
        self._warn_of_untrained_queries()
        table = to_arrow(X, self.roles)
        whole = filling.impute(self.codec_, self._sampler(num_steps, 0.0, solver), table, seed, self.seed)
        return from_arrow(whole, X)

    def _warn_of_untrained_queries(self) -> None:
        if not self.subset_probability:
            warnings.warn(
                "this model was fitted with subset_probability=0 and never saw an observed column: what it says about "
                "some columns given others is not to be trusted; fit again with subset_probability=0.5",
                stacklevel=3,
            )

    def score_samples(self, X: Any, *, seed: int = 0, num_draws: int = 16) -> np.ndarray:
        """The evidence lower bound on every row's log-density, in nats; the lowest rows are the most unusual.

        Densities are per unit of real columns, probabilities for all others; missing cells count as what they are, and
        keys and constants as nothing.

        Args:
            X: a frame with the model's columns.
            seed: fixes the corruption draws.
            num_draws: draws a row; the standard error falls with their square root.

        Returns:
            float64 (n,); minus infinity for a row that breaks a rule of the model.

        Raises:
            DataError: a cell holds a value that was never seen, or a column is absent.
        """
        check_is_fitted(self)
        table = to_arrow(X, self.roles)
        return table_scores.lower_bounds(self, table, seed, num_draws)

    def predict(self, X: Any, column: str | None = None, *, draws: int = 64, seed: int = 0) -> pd.DataFrame:
        """What a column of some rows is likely to hold, given all that their other cells hold.

        Args:
            X: rows; the column itself is not looked at and may be absent.
            column: the column; by default the target.
            draws: of a numeric column, of one in a rule, or where a cell that a rule speaks of is missing, draws a row.
            seed: fixes them.

        Returns:
            A frame with a row for each of the frame's: of categories a column of probabilities for each; of numbers
            "mean", "std" and the quantiles "5%", "50%" and "95%", of times the quantiles. NaN where the column has no
            value beside what is linked with it.

        Raises:
            DataError: no such column, a key or a constant, a cell with a value that was never seen, rows as of `impute`
                that no rule allows, or, of the lesser column of an order, rows that hold the greater one.
        """
        check_is_fitted(self)
        return predictions.predict(self, X, column or self.target, draws=draws, seed=seed)

    def score(self, X: Any, y: None = None) -> float:
        """Mean of `score_samples`: scikit-learn's score of a density."""
        return float(self.score_samples(X).mean())

    # ---------------------------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model to one file.

        Raises:
            DataError: the path exists and `overwrite` is false, or cannot be written.
        """
        check_is_fitted(self)
        table_files.write(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TableModel:
        """Read a model that `save` wrote.

        Raises:
            DataError: the file is missing, damaged, altered, of another kind or made by a newer version.
        """
        return cls.from_parts(files.read_model(path), path)

    @classmethod
    def from_parts(cls, parts: files.ModelParts, path: str | os.PathLike[str]) -> TableModel:
        """The model that the parts of a model file describe."""
        return table_files.fill(cls, parts, path)
