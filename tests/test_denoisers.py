import pytest
import torch
from torch import nn

from clarkia import testing
from clarkia.denoisers import Preconditioned, categorical_log_probs, check_prediction, preconditioning
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator
from clarkia.schedules import LearnedPolynomialMask, LearnedPowerMean

PROCESSES = [EDM, VariancePreserving(), VariancePreserving("cosine"), RectifiedFlow()]


@pytest.mark.parametrize("process", PROCESSES)
def test_preconditioning_is_finite_at_both_ends(process):
    x = torch.randn(3, 2, generator=generator(0))
    scales = preconditioning(process, x, torch.tensor([0.0, 0.5, 1.0]))
    for value in (scales.c_skip, scales.c_out, scales.c_in, scales.c_noise):
        assert value.isfinite().all()
    assert float(scales.c_skip[0]) == 1.0
    assert float(scales.c_out[0]) == 0.0
    at_zero = preconditioning(process, x, torch.zeros(3))
    assert torch.equal(at_zero.c_skip * x + at_zero.c_out * 1e6, x)


@pytest.mark.parametrize("data_std", [1.0, 0.5])
@pytest.mark.parametrize("process", PROCESSES)
def test_inputs_and_targets_have_unit_variance(process, data_std):
    """For data of standard deviation d, ``c_in x_t`` and ``(x0 - c_skip x_t) / c_out`` have variance 1, by algebra."""
    t = torch.linspace(0.02, 1, 20, dtype=torch.float64)
    x = torch.zeros(20, 1, dtype=torch.float64)
    scales = preconditioning(process, x, t, data_std)
    alpha, sigma = process.coefficients(t, x)
    one = torch.ones_like(x)
    torch.testing.assert_close(scales.c_in**2 * (alpha**2 * data_std**2 + sigma**2), one, rtol=1e-10, atol=0)
    target = ((1 - scales.c_skip * alpha) ** 2 * data_std**2 + scales.c_skip**2 * sigma**2) / scales.c_out**2
    torch.testing.assert_close(target, one, rtol=1e-8, atol=0)


def test_edm_preconditioning_is_the_published_one():
    t = torch.linspace(0.1, 1, 5, dtype=torch.float64)
    x, sigma = torch.zeros(5, 1, dtype=torch.float64), EDM.sigma(t)[:, None]
    scales = preconditioning(EDM, x, t, 0.5)
    torch.testing.assert_close(scales.c_skip, 0.25 / (sigma**2 + 0.25), rtol=1e-12, atol=0)
    torch.testing.assert_close(scales.c_out, sigma * 0.5 / (sigma**2 + 0.25).sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(scales.c_noise, sigma.log() / 4, rtol=1e-12, atol=0)


def test_log_probabilities_from_logits():
    x_t = torch.tensor([[3, 2], [1, 2], [3, 0]])
    logits = torch.randn(3, 2, 3, generator=generator(1)).requires_grad_()
    log_probs = categorical_log_probs(logits, x_t, (3, 2))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 2))
    torch.testing.assert_close(log_probs[0, 0], logits[0, 0].log_softmax(-1))
    torch.testing.assert_close(log_probs[0, 1, :2], logits[0, 1, :2].log_softmax(-1))
    assert log_probs[0, 1, 2] == -torch.inf
    assert log_probs[1, 0].tolist() == [-torch.inf, 0.0, -torch.inf]
    assert log_probs[2, 1].tolist() == [0.0, -torch.inf, -torch.inf]
    log_probs[0, 1, 0].backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[1, 0].abs().max() == 0


class Net(nn.Module):
    """Fields side by side with their noise levels through one linear map."""

    def __init__(self):
        super().__init__()
        self.numbers, self.logits = nn.Linear(4, 2), nn.Linear(4, 6)

    def forward(self, inputs, noise, condition=None):
        level = noise["numeric"] if noise["numeric"].ndim == 2 else noise["numeric"][:, None].expand(-1, 2)
        h = torch.cat([inputs["numeric"], level], 1)
        return {"numeric": self.numbers(h), "levels": self.logits(h).reshape(-1, 2, 3)}


@pytest.mark.parametrize("learned", [False, True])
def test_a_raw_network_becomes_a_denoiser(learned):
    process = Mixed(
        numeric=VarianceExploding(schedule=LearnedPowerMean(2)) if learned else EDM,
        levels=Masked((3, 2), LearnedPolynomialMask(2) if learned else "linear"),
    )
    denoiser = Preconditioned(Net(), process)
    x0 = {"numeric": torch.randn(8, 2, generator=generator(2)), "levels": torch.tensor([[2, 1]]).repeat(8, 1)}
    testing.check_denoiser(denoiser, process, x0)
    names = {name for name, _ in denoiser.named_parameters()}
    assert ("schedules.0.raw" in names) == learned


def test_a_single_block_network():
    class Plain(nn.Module):
        def forward(self, x, noise, condition=None):
            assert noise.shape == (6,)
            return 0.1 * x + noise[:, None]

    x0 = torch.randn(6, 3, generator=generator(3))
    denoiser = Preconditioned(Plain(), EDM)
    assert denoiser(x0, torch.full((6,), 0.5)).shape == (6, 3)
    assert denoiser(x0, torch.tensor(0.5)).shape == (6, 3)
    with pytest.raises(ValueError, match="data_std"):
        Preconditioned(Plain(), EDM, data_std=0.0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (torch.zeros(4, 2), "dict with the blocks"),
        ({"numeric": torch.zeros(4, 2)}, "dict with the blocks"),
        (
            {"numeric": torch.zeros(4, 3), "levels": torch.zeros(4, 2, 3)},
            r"block 'numeric' of shape \(4, 2\), found \(4, 3\)",
        ),
        ({"numeric": torch.zeros(4, 2), "levels": torch.zeros(4, 2, 4)}, r"block 'levels' of shape \(4, 2, 3\)"),
        (
            {"numeric": torch.tensor([[0.0, 0], [0, 0], [0, torch.nan], [0, 0]]), "levels": torch.zeros(4, 2, 3)},
            "'numeric', found NaN at time 0.5, row 2",
        ),
        (
            {"numeric": torch.tensor([[torch.inf, 0.0]] * 4), "levels": torch.zeros(4, 2, 3)},
            "found infinity at time 0.5, row 0",
        ),
        ({"numeric": torch.zeros(4, 2), "levels": torch.full((4, 2, 3), torch.nan)}, "'levels', found NaN"),
    ],
)
def test_a_broken_prediction_is_named(answer, words):
    process = Mixed(numeric=EDM, levels=Masked((3, 2)))
    x_t = {"numeric": torch.zeros(4, 2), "levels": torch.tensor([[3, 2]]).expand(4, 2)}
    with pytest.raises(ValueError, match=words):
        check_prediction(answer, x_t, torch.full((4,), 0.5), process)
