"""Power-function averages and their reconstruction after the run."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from clarkia.errors import DataError
from clarkia.training.ema import PowerAverage, power_of
from clarkia.training.posthoc import combination, posthoc, save_snapshot


class Walk(nn.Module):
    """A module that is nothing but a few numbers."""

    def __init__(self, size=1, dtype=torch.float64):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(size, dtype=dtype))
        self.register_buffer("table", torch.full((2,), 1 / 3))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def test_the_exponent_of_a_length():
    assert power_of(0.05) == pytest.approx(16.97220, abs=5e-6)
    assert power_of(0.10) == pytest.approx(6.93720, abs=5e-6)
    for sigma in (0.01, 0.05, 0.1, 0.2, 0.28):
        gamma = power_of(sigma)
        variance = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))
        assert math.sqrt(variance) == pytest.approx(sigma, rel=1e-9)
    assert power_of(12**-0.5) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("sigma", "value", "limit"), [(0.05, 0.947316, 0.947291), (0.10, 0.888133, 0.888108)])
def test_the_average_of_a_straight_line(sigma, value, limit):
    walk, n = Walk(), 20_000
    average = PowerAverage(walk, sigma)
    for step in range(n):
        walk.value.data.fill_(step + 1)
        average.update(step)
    assert float(average.weights["value"]) / n == pytest.approx(value, abs=5e-7)
    gamma = average.gamma
    assert (gamma + 1) / (gamma + 2) == pytest.approx(limit, abs=5e-7)


def test_parameters_are_averaged_in_single_precision_and_buffers_follow():
    walk = Walk(dtype=torch.bfloat16)
    average = PowerAverage(walk, 0.1)
    assert average.averaged == ("value",)
    for step in range(3):
        walk.value.data.fill_(1 + step)
        walk.table.fill_(step)
        walk.count.fill_(step)
        average.update(step)
    shares = np.cumprod([1, (2 / 3) ** (average.gamma + 1), (1 / 2) ** (average.gamma + 1)])
    expected = 3 * (1 - shares[1]) + 2 * (shares[1] - shares[2]) + 1 * shares[2]
    assert average.weights["value"].dtype == torch.float32
    assert float(average.weights["value"]) == pytest.approx(expected, rel=1e-6)
    assert average.weights["table"].tolist() == [2.0, 2.0]
    assert int(average.weights["count"]) == 2


def test_small_changes_are_not_lost():
    """In half precision an average of weights this near to each other would not move at all."""
    walk = Walk(dtype=torch.bfloat16)
    walk.value.data.fill_(1.0)
    average = PowerAverage(walk, 0.1)
    for step in range(1000):
        walk.value.data.fill_(1.0 if step < 998 else 1.0078125)
        average.update(step)
    assert 1.0 < float(average.weights["value"]) < 1.001


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A random walk plus a sine over 4,096 steps, snapshots of two tracks every 256, and lengths tracked directly."""
    folder, walk = tmp_path_factory.mktemp("snapshots"), Walk(8)
    noise = torch.randn(4096, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    course = noise.cumsum(0) / 64 + torch.sin(torch.arange(4096.0) / 400)[:, None]
    kept = {sigma: PowerAverage(walk, sigma) for sigma in (0.05, 0.10)}
    direct = {sigma: PowerAverage(walk, sigma) for sigma in (0.07, 0.15)}
    files, early = [], {}
    for step in range(4096):
        walk.value.data.copy_(course[step])
        for average in (*kept.values(), *direct.values()):
            average.update(step)
        if (step + 1) % 256 == 0:
            for sigma, average in kept.items():
                files.append(folder / f"ema-{sigma}-{step + 1}.safetensors")
                save_snapshot(files[-1], average, step + 1)
        if step + 1 == 3072:
            early = {sigma: average.weights["value"].clone() for sigma, average in direct.items()}
    return files, direct, early, course


@pytest.mark.parametrize("sigma", [0.07, 0.15])
def test_other_lengths_come_out_as_if_they_had_been_tracked(run, sigma):
    files, direct, _, _ = run
    error = posthoc(files, sigma)["value"] - direct[sigma].weights["value"]
    assert float(error.square().mean().sqrt()) < 3e-4


@pytest.mark.parametrize("sigma", [0.07, 0.15])
def test_an_earlier_average_differs_from_the_tracked_one_by_what_its_profile_lacks(run, sigma):
    """A path that is constant within each step is averaged without error, so the profiles tell the whole gap."""
    files, _, early, course = run
    target = (3072, power_of(sigma))
    profiles = [(256 * (i + 1), power_of(track)) for i in range(16) for track in (0.05, 0.10)]
    lack = -shares_of_steps(*target)
    for share, profile in zip(combination(profiles, target), profiles, strict=True):
        lack += share * shares_of_steps(*profile)
    gap = torch.from_numpy(lack) @ course
    assert 1e-5 < float(gap.abs().max()) < 2e-3
    torch.testing.assert_close(posthoc(files, sigma, at=3072)["value"], early[sigma] + gap, rtol=0, atol=1e-9)


def shares_of_steps(n, gamma):
    """What each of 4,096 steps weighs in the power average of the first n."""
    return np.diff(np.minimum(np.arange(4097) / n, 1.0) ** (gamma + 1))


def test_a_tracked_length_is_its_own_snapshot(run):
    files = run[0]
    profiles = [(256 * (i + 1), power_of(sigma)) for i in range(16) for sigma in (0.05, 0.10)]
    shares = combination(profiles, (4096, power_of(0.10)))
    assert shares.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(shares, np.eye(32)[-1], atol=1e-6)
    assert torch.equal(posthoc(files, 0.10)["table"], torch.full((2,), 1 / 3))


def test_inner_products_of_profiles_are_their_integrals():
    """One profile in terms of one other: the factor before normalisation is a quotient of two integrals."""
    from clarkia.training.posthoc import _product

    s = (np.arange(400_000) + 0.5) / 400_000 * 5.0
    profile = {n: (g + 1) * s**g / n ** (g + 1) * (s < n) for n, g in ((3.0, 6.9), (5.0, 2.5))}
    for a, b in (((3.0, 6.9), (5.0, 2.5)), ((5.0, 2.5), (3.0, 6.9)), ((3.0, 6.9), (3.0, 6.9))):
        integral = (profile[a[0]] * profile[b[0]]).mean() * 5.0
        assert float(_product(*a, *b)) == pytest.approx(integral, rel=1e-4)


def test_what_cannot_be_done_is_refused(run, tmp_path):
    files = run[0]
    with pytest.raises(ValueError, match="last snapshot, 4096"):
        posthoc(files, 0.1, at=4097)
    with pytest.raises(ValueError, match="sigma_rel"):
        posthoc(files, 0.4)
    with pytest.raises(DataError, match="at least one"):
        posthoc([], 0.1)
    with pytest.raises(DataError, match="cannot read"):
        posthoc([tmp_path / "absent.safetensors"], 0.1)
    save_file({"value": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="no snapshot"):
        posthoc([tmp_path / "other.safetensors"], 0.1)
    save_snapshot(tmp_path / "shape.safetensors", PowerAverage(Walk(3), 0.1), 5000)
    with pytest.raises(DataError, match="different networks"):
        posthoc([*files, tmp_path / "shape.safetensors"], 0.1)
