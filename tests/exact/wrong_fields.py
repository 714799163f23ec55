"""Fields that are known not to be the score, and the process of the published Fokker-Planck experiments."""

import torch

from clarkia.processes.gaussian import Gaussian

HORIZON = 5.0


class OrnsteinUhlenbeck(Gaussian):
    """``dx = -x dtau + dW`` over ``tau`` in [0, 5], with ``t = tau / 5``."""

    def alpha(self, t):
        return torch.exp(-HORIZON * t)

    def sigma(self, t):
        return torch.sqrt(-0.5 * torch.expm1(-2 * HORIZON * t))

    def d_alpha(self, t):
        return -HORIZON * self.alpha(t)

    def d_sigma(self, t):
        return 0.5 * HORIZON * torch.exp(-2 * HORIZON * t) / self.sigma(t)

    def t_of_kappa(self, kappa):
        return torch.log1p(2 * kappa**2) / (2 * HORIZON)


def with_score(denoiser, process, change):
    """The denoiser whose score is ``change`` of the given one's."""

    def denoise(x_t, t, condition=None):
        score = process.score(x_t, denoiser(x_t, t), t)
        return process.x0_from_score(x_t, change(score), t)

    return denoise


def turned(denoiser, process, matrix):
    """The denoiser with ``A s`` added to its score: for antisymmetric A that leaves every density as it is."""
    return with_score(denoiser, process, lambda score: score + score @ matrix.T)


def scaled(denoiser, process, factor):
    """The denoiser with its score multiplied."""
    return with_score(denoiser, process, lambda score: factor * score)


def quarter_turn(c):
    return c * torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
