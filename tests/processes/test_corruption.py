import pytest
import torch

from clarkia import testing
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import RowBlocks, generator
from clarkia.schedules import LearnedPolynomialMask, LearnedPowerMean, PolynomialMask

GAUSSIANS = [
    EDM,
    VariancePreserving(),
    VariancePreserving("cosine"),
    RectifiedFlow(),
    VarianceExploding(schedule=LearnedPowerMean(3).requires_grad_(False)),
]
MASKS = [Masked((3, 2)), Masked((3, 2), "cosine"), Masked((3, 2), LearnedPolynomialMask(2).requires_grad_(False))]
LEVELS = torch.tensor([[0, 1], [2, 0], [1, 1], [2, 1]])


@pytest.mark.parametrize("process", GAUSSIANS)
def test_gaussian_processes_keep_the_contract(process):
    testing.check_process(process, torch.randn(6, 3, generator=generator(0)))


@pytest.mark.parametrize("process", MASKS)
def test_masked_processes_keep_the_contract(process):
    testing.check_process(process, LEVELS)


def test_mixed_processes_keep_the_contract():
    process = Mixed(numeric=GAUSSIANS[-1], levels=MASKS[-1])
    testing.check_process(process, {"numeric": torch.randn(4, 3, generator=generator(0)), "levels": LEVELS})


@pytest.mark.parametrize("shape", [(), (3,), (2, 4, 4)])
def test_blocks_of_any_shape(shape):
    x0 = torch.randn(5, *shape, generator=generator(1))
    testing.check_process(RectifiedFlow(), x0)
    testing.check_process(Masked(4), torch.zeros(5, *shape, dtype=torch.int64))


def test_corruption_has_the_stated_moments():
    n = 200_000
    x0 = torch.full((n, 2), 1.5, dtype=torch.float64)
    t = torch.tensor([[0.3, 0.8]], dtype=torch.float64).expand(n, 2)
    for process in GAUSSIANS[:4]:
        x_t = process.corrupt(x0, t, generator=generator(2))
        for column in range(2):
            alpha, sigma = process.alpha(t[0, column]), process.sigma(t[0, column])
            assert abs(float(x_t[:, column].mean() - 1.5 * alpha)) < 4 * float(sigma) / n**0.5
            assert float(x_t[:, column].std() / sigma) == pytest.approx(1, abs=4 / (2 * n) ** 0.5)


def test_masking_has_the_stated_rate_by_column():
    schedule = PolynomialMask(torch.tensor([1.0, 2.0]))
    x_t = Masked((3, 2), schedule).corrupt(torch.zeros(100_000, 2, dtype=torch.int64), 0.6, generator=generator(3))
    rate = (x_t == torch.tensor([3, 2])).double().mean(0)
    assert float((rate - torch.tensor([0.6, 0.36])).abs().max()) < 4 * 0.5 / 100_000**0.5
    assert sorted(set(x_t[:, 0].tolist())) == [0, 3]


def test_the_prior_is_pure_noise():
    prior = EDM.prior(50_000, (2,), generator=generator(4), dtype=torch.float64)
    assert float(prior.std()) == pytest.approx(80, rel=0.02)
    assert Masked((3, 2)).prior(4).tolist() == [[3, 2]] * 4
    assert Masked(7).prior(2, (3,)).tolist() == [[7] * 3] * 2
    drawn = Mixed(numeric=EDM, levels=Masked((3, 2))).prior(4, {"numeric": (2,)}, generator=RowBlocks(0, 0, 4))
    assert {name: tuple(block.shape) for name, block in drawn.items()} == {"numeric": (4, 2), "levels": (4, 2)}


def test_conversions_are_finite_and_idle_at_time_zero():
    x = torch.randn(4, 3, generator=generator(5))
    zero = torch.zeros(4)
    for process in GAUSSIANS:
        for meaning in (process.epsilon, process.score, process.velocity):
            assert torch.equal(meaning(x, x, zero), torch.zeros(4, 3))
        assert torch.equal(process.x0_from_velocity(x, torch.zeros(4, 3), zero), x)


NUMBERS = torch.zeros(4, 3)
WRONG = {
    "late": (lambda: EDM.corrupt(NUMBERS, torch.full((4,), 1.1)), r"times in \[0, 1\]"),
    "nan": (lambda: EDM.corrupt(NUMBERS, torch.full((4,), torch.nan)), r"times in \[0, 1\]"),
    "shape": (lambda: EDM.corrupt(NUMBERS, torch.zeros(3)), r"\(4,\) or \(4, 3\), found \(3,\)"),
    "class": (lambda: Masked((3, 2)).corrupt(LEVELS + 1, 0.5), "classes from 0 to 1"),
    "mask": (lambda: Masked((3, 2)).corrupt(torch.tensor([[3, 0]]), 0.5), r"from 0 to 2 at position \[0\], found 3"),
    "float": (lambda: Masked((3, 2)).corrupt(LEVELS.float(), 0.5), "int64"),
    "logits": (lambda: Masked((3, 2)).log_probs(torch.zeros(4, 2, 4), LEVELS), "logits"),
    "schedule": (lambda: Masked(3, "cosinus"), "schedule"),
    "vp": (lambda: VariancePreserving("cosinus"), "schedule"),
    "prior": (lambda: Masked(3).prior(4), "shape"),
    "blocks": (lambda: Mixed(a=EDM).corrupt({"b": NUMBERS}, torch.zeros(4)), r"blocks \['a'\], found \['b'\]"),
    "time": (lambda: Mixed(a=EDM).corrupt({"a": NUMBERS}, {"b": torch.zeros(4)}), "for 'a'"),
    "mixed prior": (lambda: Mixed(a=EDM).prior(4), r"\['a'\]"),
    "alpha": (lambda: RectifiedFlow().x0_from_epsilon(NUMBERS, NUMBERS, torch.ones(4)), "alpha = 0"),
}


@pytest.mark.parametrize(("call", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
