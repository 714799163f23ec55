"""Classifier-free guidance at its closed forms."""

import pytest
import torch

from clarkia import samplers
from clarkia.guidance import classifier_free
from clarkia.oracles import FiniteJoint, GaussianMixture
from clarkia.processes import Masked, Mixed, VariancePreserving
from clarkia.random import generator

CONDITIONAL, UNCONDITIONAL = torch.tensor([0.4, 0.6]).log(), torch.tensor([0.5, 0.5]).log()


def test_probabilities_of_a_guided_answer():
    """``p(y|x)^1.6 p(y)^-0.6`` with (.4, .6) and (.5, .5) is (.343, .657)."""
    answer = classifier_free(
        lambda x, t, c=None: CONDITIONAL.expand(3, 1, 2), 0.6, unconditional=lambda x, t: UNCONDITIONAL.expand(3, 1, 2)
    )(torch.full((3, 1), 2), torch.full((3,), 0.5))
    torch.testing.assert_close(answer.exp(), torch.tensor([0.343, 0.657]).expand(3, 1, 2), rtol=0, atol=1e-3)
    torch.testing.assert_close(answer.exp().sum(-1), torch.ones(3, 1))


def test_no_weight_returns_the_conditional_answer_bit_for_bit():
    process = Mixed(numeric=VariancePreserving(), levels=Masked((3,)))
    x_t = {"numeric": torch.randn(4, 2, generator=generator(0)), "levels": torch.tensor([[3], [0], [3], [1]])}
    logits = torch.randn(4, 1, 3, generator=generator(1))

    def denoise(x, t, condition=None):
        gap = 0.0 if condition is None else 1.0
        return {
            "numeric": x["numeric"] + gap,
            "levels": process.blocks["levels"].log_probs(logits * (1 + gap), x["levels"]),
        }

    t = torch.full((4,), 0.5)
    plain, free = denoise(x_t, t, "c"), denoise(x_t, t)
    for guided in (classifier_free(denoise, 0.0), classifier_free(denoise, 2.0, interval=(0.6, 1.0))):
        assert all(torch.equal(guided(x_t, t, "c")[name], plain[name]) for name in plain)
    half = classifier_free(denoise, 0.5)(x_t, t, "c")
    torch.testing.assert_close(half["numeric"], 1.5 * plain["numeric"] - 0.5 * free["numeric"])
    expected = (1.5 * logits * 2 - 0.5 * logits).log_softmax(-1)
    torch.testing.assert_close(half["levels"][[0, 2]], expected[[0, 2]])
    assert half["levels"][1, 0].tolist() == [0.0, -torch.inf, -torch.inf]
    partial = classifier_free(denoise, 0.5, unconditional=lambda x, t: {"levels": free["levels"]})(x_t, t, "c")
    assert torch.equal(partial["numeric"], plain["numeric"])


def test_guided_sampling_of_one_category():
    """Guiding one category is exact: sampled shares are the normalised ``p(y|x)^(1+w) p(y)^-w``."""
    process = Masked((3,))
    conditional, prior = FiniteJoint([0.2, 0.3, 0.5]), FiniteJoint([0.5, 0.25, 0.25])
    guided = classifier_free(conditional.denoiser(process), 0.7, unconditional=prior.denoiser(process))
    x = samplers.sample(guided, process, num_samples=100_000, num_steps=5, generator=generator(2))
    exact = conditional.probabilities**1.7 / prior.probabilities**0.7
    share = torch.bincount(x[:, 0], minlength=3) / 100_000
    assert float((share - exact / exact.sum()).abs().max()) < 4 * 0.5 / 100_000**0.5


def test_guided_mean_of_two_normals():
    """With equal variances the guided score is that of the normal with mean ``(1 + w) a - w b``."""
    process, t = VariancePreserving(), torch.full((6,), 0.4, dtype=torch.float64)
    a, b, w = 0.8, -0.3, 1.5
    laws = [GaussianMixture([1.0], [[mean]], [0.5]) for mean in (a, b, (1 + w) * a - w * b)]
    x_t = torch.linspace(-2, 2, 6, dtype=torch.float64)[:, None]
    guided = classifier_free(laws[0].denoiser(process), w, unconditional=laws[1].denoiser(process))
    torch.testing.assert_close(guided(x_t, t), laws[2].denoiser(process)(x_t, t), rtol=1e-10, atol=1e-10)


def test_rescaling_restores_the_standard_deviation():
    conditional = torch.randn(5, 30, generator=generator(3))
    guided = classifier_free(
        lambda x, t, c=None: conditional, 2.0, unconditional=lambda x, t: 0.2 * conditional, rescale=1.0
    )
    x_t = torch.zeros(5, 30)
    torch.testing.assert_close(guided(x_t, torch.full((5,), 0.5)).std(1), conditional.std(1))


@pytest.mark.parametrize("wrong", [{"interval": (0.5, 0.2)}, {"rescale": 1.5}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        classifier_free(lambda x, t, c=None: x, 1.0, **wrong)
