"""A batch cut among processes draws the noise, and has the losses, of the whole one."""

from itertools import pairwise

import pytest
import torch

from clarkia import objectives
from clarkia.objectives import observed
from clarkia.objectives.draws import stratified
from clarkia.objectives.noise import LogitNormal
from clarkia.processes import EDM, Masked, RectifiedFlow, Uniform
from clarkia.random import RowBlocks, Share, categorical, generator, of_batch, rand, randn

ROWS, CUTS = 21, (0, 8, 9, 21)


def shares(seed=5):
    for start, stop in pairwise(CUTS):
        yield slice(start, stop), Share(generator(seed), start, stop - start, ROWS)


def test_shares_draw_what_the_whole_batch_draws():
    whole = generator(5)
    expected = [randn((ROWS, 3), whole), rand((ROWS,), whole), stratified(ROWS, whole), randn((ROWS, 2, 2), whole)]
    for rows, share in shares():
        size = rows.stop - rows.start
        found = [randn((size, 3), share), rand((size,), share), stratified(size, share), randn((size, 2, 2), share)]
        assert all(torch.equal(part, full[rows]) for part, full in zip(found, expected, strict=True))


def test_categories_of_a_share():
    log_probs = torch.randn(ROWS, 4, generator=generator(1)).log_softmax(1)
    expected = categorical(log_probs, generator(5))
    for rows, share in shares():
        assert torch.equal(categorical(log_probs[rows], share), expected[rows])


@pytest.mark.parametrize("wrong", [(-1, 2, 4), (0, -1, 4), (3, 2, 4)])
def test_a_share_lies_within_its_batch(wrong):
    with pytest.raises(ValueError, match="start"):
        Share(generator(0), *wrong)


@pytest.mark.parametrize("draw", [lambda share: rand((3,), share), lambda share: stratified(3, share)])
def test_a_share_is_made_for_its_rows(draw):
    with pytest.raises(ValueError, match="4 rows"):
        draw(Share(generator(0), 0, 4, 8))


def test_a_coupled_draw_of_row_blocks_is_that_of_the_block():
    whole = stratified(4000, RowBlocks(7, 0, 4000))
    assert torch.equal(stratified(10, RowBlocks(7, 1020, 10)), whole[1020:1030])
    counts = torch.bincount((whole[:1024] * 1024).long(), minlength=1024)
    assert bool((counts == 1).all())


def test_without_a_share_the_draw_is_that_of_the_rows():
    assert of_batch(4, None, lambda n, source: torch.arange(n)).tolist() == [0, 1, 2, 3]


def smooth(x_t, t, condition=None):
    """Some denoiser of numbers that answers row by row, element by element."""
    return 0.3 * x_t + 0.1 * (t if t.shape == x_t.shape else t[:, None])


def classes(process):
    def denoise(x_t, t, condition=None):
        logits = torch.sin(x_t[..., None] + torch.arange(3.0) + (t if t.ndim > 1 else t[:, None])[..., None])
        return process.log_probs(logits, x_t, t)

    return denoise


def number_losses():
    yield objectives.Denoising(EDM), smooth
    yield objectives.Denoising(RectifiedFlow(), "flow", LogitNormal(), observed=observed.RandomElements()), smooth


def class_losses():
    masked, uniform = Masked(3), Uniform(3)
    for estimator in ("count", "lambda", "time", "score"):
        yield objectives.MaskedELBO(masked, estimator, observed=observed.RandomSpans()), classes(masked)
    yield objectives.ScoreEntropy(uniform), classes(uniform)
    yield objectives.DiscreteFlowMatching(uniform), classes(uniform)


@pytest.mark.parametrize(
    ("loss", "denoiser", "numbers"),
    [(*pair, True) for pair in number_losses()] + [(*pair, False) for pair in class_losses()],
    ids=lambda value: getattr(value, "estimator", None) or getattr(value, "weight", None) or type(value).__name__,
)
def test_losses_of_a_batch_cut_in_shares_are_those_of_the_whole(loss, denoiser, numbers):
    x0 = torch.randn(ROWS, 6, generator=generator(2))
    x0 = x0 if numbers else (x0.abs() * 2).long().clamp(max=2)
    whole = loss(denoiser, x0, generator(5))
    assert whole.shape == (ROWS,)
    assert float(whole.std()) > 0
    for rows, share in shares():
        # The same noise to the last bit; the arithmetic of a smaller batch may round otherwise.
        torch.testing.assert_close(loss(denoiser, x0[rows], share), whole[rows], rtol=1e-6, atol=1e-6)
