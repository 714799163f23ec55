"""What a fitted model says of a label: classes of pictures and of texts, a column of a table from all the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clarkia.adapters.frames import to_arrow
from clarkia.codecs.descriptions import CAPTION
from clarkia.codecs.image import to_float
from clarkia.codecs.table.arrow import is_number
from clarkia.codecs.table.category import CategoryCoding
from clarkia.codecs.table.fixed import ConstantCoding, KeyCoding
from clarkia.errors import DataError
from clarkia.measures.classification import Classification, Stages, diffusion_classifier
from clarkia.models import missing
from clarkia.models.image_data import CLASS
from clarkia.models.rows import RowSampler
from clarkia.models.table_fit import tensors
from clarkia.random import RowBlocks

if TYPE_CHECKING:
    from clarkia.models.image import ImageModel
    from clarkia.models.table import TableModel
    from clarkia.models.text import TextModel

BATCH = 256
"""Pictures or texts that are classified together; each has noise of its own number and the seed, whatever the batch."""

NOISE_BLOCK = 16

LOG_SNR = (-7.0, 7.0)
"""Lowest and highest log-SNR at which pictures are compared. Training hardly sees others; where the noise is less than
the steps of 256 levels no class shows, and where it drowns all, none does either."""

RARE = "(rare)"
"""Column of the values of a categorical column that were too rare to be classes of their own."""


# ------------------------------------------------------------------------------------------------------- pictures


def classify_images(
    model: ImageModel,
    pictures: Any,
    attribute: str = CLASS,
    *,
    candidates: Sequence[Any] | None = None,
    given: Mapping[str, Any] | None = None,
    prior: Mapping[Any, float] | None = None,
    num_draws: int = 128,
    stages: Stages | str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Probabilities of what may be said of pictures, by how well the model restores them when it is told so.

    Args:
        model: a fitted model of pictures with classes, attributes or captions.
        pictures: as of `fit`.
        attribute: what is asked: "class", another attribute, or "caption".
        candidates: the answers that are weighed up; by default all values of the attribute. Captions must be given.
        given: what is known of the pictures besides, as in `sample`; one value for all of them.
        prior: probability of each candidate before the picture is seen, up to a factor; even by default.
        num_draws: noisy copies of each picture; each is shown to the network once a candidate.
        stages: where to give up on candidates, as of `clarkia.measures.diffusion_classifier`; replaces `num_draws`.
        seed: fixes the draws.

    Returns:
        A frame with a row a picture and a column a candidate; rows sum to one.

    Raises:
        DataError: an attribute or candidate that the model does not know, or captions without candidates.

    Source: Your Diffusion Model is Secretly a Zero-Shot Classifier (2023).
    """
    check_is_fitted(model)
    answers = _candidates(model, attribute, candidates)
    condition = model.descriptions_.given({**(given or {}), attribute: answers}, len(answers))
    assert condition is not None
    ask = partial(
        diffusion_classifier,
        num_draws=num_draws,
        stages=stages,
        log_prior=_log_prior(answers, prior),
        log_snr_range=LOG_SNR,
    )
    return _frame([part.log_posterior for part in answers_on(model, pictures, condition, ask, seed=seed)], answers)


def answers_on(
    model: ImageModel,
    pictures: Any,
    condition: Mapping[str, Tensor],
    ask: Callable[..., Classification],
    *,
    seed: int = 0,
    per_row: int | None = None,
) -> Iterator[Classification]:
    """A classifier's answers on pictures, a batch at a time.

    Args:
        model: a fitted model of pictures.
        pictures: as of `fit`.
        condition: of its network, a row a class; with `per_row`, so many rows a picture, those of a picture together.
        ask: `clarkia.measures.diffusion_classifier` with its settings.
        seed: fixes the draws.
        per_row: how many classes each picture has of its own; None where all share theirs.
    """
    device = next(model.denoiser_.parameters()).device
    condition = {name: part.to(device) for name, part in condition.items()}
    levels = model.codec_.encode(pictures)
    for first in range(0, len(levels), BATCH):
        x = to_float(levels[first : first + BATCH]).to(device)
        if model.autoencoder is not None:
            with torch.no_grad():
                x = model.autoencoder.encode(x)
        own = condition
        if per_row is not None:
            own = {name: part[per_row * first : per_row * (first + len(x))] for name, part in condition.items()}
        source = RowBlocks(seed, first, len(x), NOISE_BLOCK)
        yield ask(model.denoiser_, model.process_, x, own, per_row=per_row is not None, generator=source)


def _candidates(model: ImageModel, attribute: str, candidates: Sequence[Any] | None) -> list[Any]:
    known = model.descriptions_.attributes
    if candidates is None:
        if attribute == CAPTION:
            raise DataError("candidates: give the captions to be weighed up against each other")
        if attribute not in known:
            told = ", ".join([*known, *([CAPTION] if model.descriptions_.words else [])]) or "nothing"
            raise DataError(f"attribute: the model was not told {attribute!r} of its pictures, only {told}")
        return list(known[attribute])
    if isinstance(candidates, str) or len(candidates) < 2:
        raise DataError(f"candidates: expected a list of at least two, found {candidates!r}")
    return list(candidates)


# ---------------------------------------------------------------------------------------------------------- texts


def classify_texts(
    model: TextModel,
    texts: Sequence[str],
    prefixes: Sequence[str],
    *,
    prior: Mapping[str, float] | None = None,
    num_draws: int = 128,
    stages: Stages | str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Probabilities of how texts may have begun, by how likely each beginning makes the rest.

    A model of lines such as "sport: the match was lost" is asked for the label of "the match was lost" with the
    prefixes "sport: ", "politics: ", ... All are tried on the same masked tokens.

    Args:
        model: a fitted model of texts, trained with some subset_probability.
        texts: what follows the beginnings.
        prefixes: the beginnings that are weighed up; each with each text must fit into the model's length.
        prior: probability of each prefix before the text is seen, up to a factor; even by default.
        num_draws: masked copies of each text.
        stages: where to give up on prefixes, as of `clarkia.measures.diffusion_classifier`; replaces `num_draws`.
        seed: fixes the draws.

    Returns:
        A frame with a row a text and a column a prefix; rows sum to one.

    Raises:
        DataError: fewer than two prefixes, an unknown character, an empty text, or one that does not fit.

    Source: Your Diffusion Model is Secretly a Zero-Shot Classifier (2023).
    """
    check_is_fitted(model)
    if isinstance(prefixes, str) or len(prefixes) < 2:
        raise DataError(f"prefixes: expected a list of at least two, found {prefixes!r}")
    device = next(model.denoiser_.parameters()).device
    begun = [torch.from_numpy(model.codec_.ids(prefix).astype(np.int64)).to(device) for prefix in prefixes]
    tokens = [_tokens(model, text, row, max(map(len, begun))) for row, text in enumerate(texts)]
    log_prior = _log_prior(list(prefixes), prior)
    rows_of: dict[int, list[int]] = {}
    for row, ids in enumerate(tokens):
        rows_of.setdefault(len(ids), []).append(row)
    posterior = torch.zeros(len(texts), len(prefixes), dtype=torch.float64)
    for rows in rows_of.values():  # texts of one length share their calls
        for part in torch.tensor(rows).split(BATCH):
            x = torch.stack([tokens[row] for row in part.tolist()]).to(device)
            answer = diffusion_classifier(
                _after_prefix(model),
                model.process_,
                x,
                begun,
                log_prior=log_prior,
                num_draws=num_draws,
                stages=stages,
                generator=RowBlocks.at(seed, part, NOISE_BLOCK),
            )
            posterior[part] = answer.log_posterior.cpu()
    return _frame([posterior], list(prefixes))


def _tokens(model: TextModel, text: str, row: int, ahead: int) -> Tensor:
    """Tokens of a text with the end that a document has."""
    codec = model.codec_
    try:
        ids = codec.ids(text)
    except DataError as error:
        raise DataError(f"text {row}: {error}") from None
    if not len(ids):
        raise DataError(f"text {row} is empty; leave it out")
    ids = ids if codec.end is None else np.append(ids, codec.end)
    if ahead + len(ids) > codec.length:
        raise DataError(
            f"text {row}: has {len(ids)} tokens and up to {ahead} before them, and the model's length is "
            f"{codec.length}; shorten it"
        )
    return torch.from_numpy(ids.astype(np.int64))


def _after_prefix(model: TextModel) -> Any:
    """The denoiser of tokens that follow the ones given as condition; of documents, padding follows them."""

    def denoise(x_t: Tensor, t: Tensor, prefix: Tensor) -> Tensor:
        rows, length = x_t.shape
        before = prefix.expand(rows, -1)
        padding = 0 if model.codec_.padding is None else model.codec_.length - len(prefix) - length
        after = x_t.new_full((rows, padding), model.codec_.padding or 0)
        whole = torch.cat([before, x_t, after], 1)
        times = torch.zeros(whole.shape, dtype=t.dtype, device=t.device)
        times[:, len(prefix) : len(prefix) + length] = t[:, None]
        return model.denoiser_(whole, times)[:, len(prefix) : len(prefix) + length]

    return denoise


# --------------------------------------------------------------------------------------------------------- tables


@torch.no_grad()
def predict_column(model: TableModel, frame: Any, column: str, *, draws: int = 64, seed: int = 0) -> pd.DataFrame:
    """What a column of some rows is likely to hold, given all that their other cells hold.

    Args:
        model: a fitted model of a table.
        frame: rows; the column itself is not looked at and may be absent, and empty cells of others tell nothing.
        column: the column.
        draws: of a numeric column, draws a row.
        seed: fixes them.

    Returns:
        A frame with a row for each of the frame's. Of a categorical column, a column of probabilities for each value,
        exact in that nothing is drawn: one evaluation of the network with this cell unknown; values too rare for a
        class of their own are together in "(rare)". Of a numeric, date or time column "mean" and "std" (of numbers
        only) and the quantiles "5%", "50%" and "95%" of the draws.

    Raises:
        DataError: no such column, a key or a constant, or a cell with a value that was never seen.
    """
    check_is_fitted(model)
    if draws < 2:
        raise DataError(f"draws: expected at least 2, found {draws}.")
    coding = model.codec_.column(column)[1]
    if isinstance(coding, ConstantCoding | KeyCoding):
        raise DataError(f"Column {column!r} is a constant or a key, made afresh; there is nothing to predict.")
    table = to_arrow(frame, model.roles)
    if column in table.column_names:
        table = table.drop_columns([column])
    if isinstance(coding, CategoryCoding):
        return _class_probabilities(model, table, column, coding)
    return _number_quantiles(model, table, column, draws, seed)


def _known(model: TableModel, part: pa.Table) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values and mask of what some rows hold; a residual is known where its level is."""
    rng = np.random.default_rng(0)  # fills the cells that are not known and are masked below
    values = tensors(model.codec_.encode(part, rng, holes="fill", unseen="error"))
    mask = {name: torch.from_numpy(cells) for name, cells in model.codec_.observed(part).items()}
    return values, mask


def _some(state: dict[str, Tensor], first: int, rows: int) -> dict[str, Tensor]:
    return {name: block[first : first + rows] for name, block in state.items()}


def _class_probabilities(model: TableModel, table: pa.Table, column: str, coding: CategoryCoding) -> pd.DataFrame:
    place, _ = model.codec_.column(column)
    answers = [*coding.values.to_pylist(), *([RARE] if coding.rare is not None else [])]
    if place.level is None:
        return pd.DataFrame(np.ones((table.num_rows, 1)), columns=pd.Index(answers, dtype=object, name=column))
    block, position = place.level
    denoiser, found = missing.never_missing(model.codec_, model.denoiser_), []
    known = _known(model, table)
    for first in range(0, table.num_rows, BATCH * 16):
        values, mask = (_some(state, first, BATCH * 16) for state in known)
        t = {name: torch.where(cells, 0.0, 1.0) for name, cells in mask.items()}
        x_t = {}
        for name, process in model.process_.blocks.items():
            # A number that is not known is shown as the middle of pure noise, which is as good as a draw of it.
            unknown = process.mask_state() if hasattr(process, "mask_state") else torch.zeros(())
            x_t[name] = torch.where(mask[name], values[name], unknown.to(values[name].dtype))
        log_probs = denoiser(x_t, t)[block][:, position, : len(answers)]
        found.append(log_probs.double().log_softmax(1))
    return _frame(found, answers, column)


def _number_quantiles(model: TableModel, table: pa.Table, column: str, draws: int, seed: int) -> pd.DataFrame:
    sampler = RowSampler(model.codec_, model.process_, model.denoiser_)
    rows_at_once = max(1, BATCH * 16 // draws)
    parts, known = [], _known(model, table)
    for first in range(0, table.num_rows, rows_at_once):
        rows = min(rows_at_once, table.num_rows - first)
        many = [
            {name: block.repeat_interleave(draws, 0) for name, block in _some(state, first, rows).items()}
            for state in known
        ]
        source = RowBlocks(seed, first * draws, rows * draws)
        drawn = sampler.fill((many[0], many[1]), source, present_only=True)
        cells = sampler.decode(drawn, source, first * draws).column(column)
        if is_number(cells.type):
            cells = cells.cast(pa.float64())  # decimals among them
        parts.append(summary(cells.to_pandas(), rows, draws))
    return pd.concat(parts, ignore_index=True) if parts else summary(pd.Series(dtype=float), 0, draws)


def summary(cells: pd.Series, rows: int, draws: int) -> pd.DataFrame:
    """Mean, deviation and quantiles of the draws of each row, those of a row together."""
    numeric = pd.api.types.is_numeric_dtype(cells)
    table = cells.to_numpy().reshape(rows, draws)
    if not numeric:
        ordered = np.sort(table, axis=1) if rows else table
        at = {f"{share}%": ordered[:, (draws - 1) * share // 100] for share in (5, 50, 95)}
        return pd.DataFrame(at)
    table = table.astype(np.float64)
    shares = {f"{share}%": np.quantile(table, share / 100, axis=1) for share in (5, 50, 95)}
    return pd.DataFrame({"mean": table.mean(1), "std": table.std(1, ddof=1), **shares})


# --------------------------------------------------------------------------------------------------------- shared


def _log_prior(answers: Sequence[Any], prior: Mapping[Any, float] | None) -> Tensor | None:
    if prior is None:
        return None
    if set(prior) != set(answers) or min(prior.values()) < 0 or not 0 < sum(prior.values()) < np.inf:
        raise DataError(f"prior: expected a number of at least 0 for each of {list(answers)}, found {dict(prior)}")
    return torch.tensor([float(prior[answer]) for answer in answers], dtype=torch.float64).log()


def _frame(log_probs: Sequence[Tensor], answers: Sequence[Any], name: str | None = None) -> pd.DataFrame:
    columns = pd.Index(list(answers), dtype=object, name=name)
    rows = torch.cat(list(log_probs)).exp().cpu().numpy() if log_probs else np.empty((0, len(answers)))
    return pd.DataFrame(rows, columns=columns)
