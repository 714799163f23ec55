"""The identities of a flow map, on the exact one of normal data and on wrong ones."""

import pytest
import torch
from wrong_fields import OrnsteinUhlenbeck

from clarkia import measures
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.processes.times import spread
from clarkia.random import generator, randn

PROCESSES = {
    "vp-linear": VariancePreserving(),
    "vp-cosine": VariancePreserving("cosine"),
    "edm": EDM,
    "per-column": VarianceExploding(rho=torch.tensor([5.0, 9.0], dtype=torch.float64)),
    "flow": RectifiedFlow(),
    "ou": OrnsteinUhlenbeck(),
}
MEAN, VARIANCE = torch.tensor([0.7, -0.4], dtype=torch.float64), torch.tensor([0.3, 1.2], dtype=torch.float64)
ORACLE = GaussianMixture([1.0], MEAN.unsqueeze(0), VARIANCE.unsqueeze(0))


@pytest.fixture(params=PROCESSES.values(), ids=PROCESSES.keys())
def process(request):
    return request.param


def exact(process):
    """``alpha_s mu + sqrt((alpha_s^2 V + sigma_s^2) / (alpha_t^2 V + sigma_t^2)) (x - alpha_t mu)``."""

    def flow_map(x, t, s):
        t, s = spread(t, x), spread(s, x)
        spread_t, spread_s = (process.alpha(time) ** 2 * VARIANCE + process.sigma(time) ** 2 for time in (t, s))
        return process.alpha(s) * MEAN + (spread_s / spread_t).sqrt() * (x - process.alpha(t) * MEAN)

    return flow_map


def residuals(flow_map, process, **options):
    n = 30
    t, s = torch.linspace(0.2, 0.95, n, dtype=torch.float64), torch.linspace(0.9, 0.1, n, dtype=torch.float64)
    x_t = process.corrupt(ORACLE.sample(n, generator=generator(0)), t, generator=generator(1))
    return measures.flow_map_residuals(flow_map, process, ORACLE.denoiser(process), x_t, t, s, **options)


def test_the_exact_map_fulfils_all_four(process):
    """Forwards and backwards in time, with any stop on the way."""
    for between in (None, 0.05, 1.0):
        found = residuals(exact(process), process, between=between)
        for name in ("identity", "semigroup", "lagrangian", "eulerian"):
            assert float(getattr(found, name).max()) < 1e-6, name


def test_the_identity_map_breaks_the_two_equations(process):
    found = residuals(lambda x, t, s: x, process)
    assert float(found.identity.max()) == float(found.semigroup.max()) == 0
    assert float(found.lagrangian.min()) > 1e-3
    assert float(found.eulerian.min()) > 1e-3


def test_each_identity_is_broken_by_its_own_error(process):
    flow = exact(process)
    shift = torch.tensor([0.05, -0.03], dtype=torch.float64)

    def changed(factor):
        return residuals(lambda x, t, s: flow(x, t, s) + factor(spread(t, x), spread(s, x)) * shift, process)

    everywhere = changed(lambda t, s: 1.0)
    assert everywhere.identity.tolist() == pytest.approx([float(shift.norm())] * 30)
    ends = changed(lambda t, s: (s - t) ** 2)
    assert float(ends.identity.max()) < 1e-12
    apart = (torch.linspace(0.2, 0.95, 30) - torch.linspace(0.9, 0.1, 30)).abs() > 0.1
    for name in ("semigroup", "lagrangian", "eulerian"):
        assert float(getattr(ends, name)[apart].min()) > 1e-5, name


def test_a_jump_of_the_start_alone_is_seen_by_the_second_equation():
    """``Psi(x, t, s) = flow(x + (t - s)^2 ...)``: the end still follows the flow where the shift is of the start."""
    process, flow = VariancePreserving(), exact(VariancePreserving())
    x_t, t, s = randn((5, 2), generator(2), dtype=torch.float64), 0.8, 0.3

    def moved(x, t, s):
        return flow(x + 0.1 * spread(t, x), t, s)

    found = measures.flow_map_residuals(moved, process, ORACLE.denoiser(process), x_t, t, s)
    assert float(found.lagrangian.max()) < 1e-9
    assert float(found.eulerian.min()) > 1e-2
    assert float(found.identity.min()) > 1e-2


def test_states_of_any_shape():
    def denoise(x, t):
        return 0.0 * x

    process = RectifiedFlow()

    def flow(x, t, s):
        return x * (s / t).reshape(-1, 1, 1)  # data at the origin: every state shrinks with its noise

    found = measures.flow_map_residuals(flow, process, denoise, randn((3, 2, 2), generator(3)), 0.8, 0.2)
    assert found.identity.shape == (3,)
    assert max(float(part.max()) for part in vars(found).values()) < 1e-6
