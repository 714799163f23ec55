"""What exact guidance trades: four classes with known laws, and the front of its settings."""

import pytest
import torch

from clarkia import bench
from clarkia.guidance import classifier_free
from clarkia.measures import fronts, vendi
from clarkia.measures.kernels import Gaussian
from clarkia.oracles import GaussianMixture
from clarkia.processes import VarianceExploding
from clarkia.random import generator
from clarkia.samplers import DDIM, sample
from clarkia.schedules import karras

PROCESS = VarianceExploding(0.002, 80.0)
SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
CORNERS = torch.tensor([[1.7, 1.7], [1.7, -1.7], [-1.7, 1.7], [-1.7, -1.7]], dtype=torch.float64)
APART = torch.tensor([[0.8, 0.0], [-0.8, 0.0]], dtype=torch.float64)
VARIANCE = 0.16
POINTS = 400
ASKED = (0, 1)  # the four are alike
LAWS = [GaussianMixture([0.5, 0.5], corner + APART, [VARIANCE] * 2) for corner in CORNERS]
WHOLE = GaussianMixture([1 / 8] * 8, torch.cat([law.means for law in LAWS]), [VARIANCE] * 8)


def right(samples, label):
    """Exact probability of the class that was asked for."""
    return torch.stack([law.log_prob(samples) for law in LAWS], 1).softmax(1)[:, label].mean()


def make(setting):
    """``D_u + w (D_c - D_u)``, everywhere or between the noise levels .3 and 3."""
    each, every = [law.denoiser(PROCESS) for law in LAWS], WHOLE.denoiser(PROCESS)

    def denoiser(x_t, t, condition=None):
        return every(x_t, t) if condition is None else each[condition](x_t, t)

    interval = (0.0, 1.0)
    if setting["interval"]:
        low, high = PROCESS.t_of_kappa(torch.tensor([0.3, 3.0], dtype=torch.float64)).tolist()
        interval = (low, high)
    guided = classifier_free(denoiser, setting["scale"] - 1, interval=interval)

    def draw(label, n, noise):
        return sample(
            lambda x_t, t: guided(x_t, t, label), PROCESS, num_samples=n, shape=(2,), solver=DDIM(),
            times=karras(60, PROCESS), generator=noise, dtype=torch.float64,
        )  # fmt: skip

    return draw


@pytest.fixture(scope="module")
def report():
    real = torch.cat([LAWS[label].sample(POINTS, generator=generator(0, label)) for label in ASKED])
    return bench.pareto(
        make, {"interval": [False, True], "scale": SCALES}, ASKED,
        consistency=right, features=lambda samples: samples, kernel=Gaussian(0.5), real=real,
        realism=lambda samples: WHOLE.log_prob(samples).mean(),
        cost=lambda setting: 60 * (1 if setting["scale"] == 1 else 2),
        reference={"consistency": 0.9, "realism": -8.0}, per_condition=POINTS, num_seeds=1,
    )  # fmt: skip


def column(report, axis, interval):
    rows = [row for row, setting in enumerate(report.sweep.settings) if setting["interval"] is interval]
    return report.sweep.values[rows, report.sweep.axes.index(axis)]


TABLE = {  # without and with the interval, at the six scales; recall of the latter was not published
    (False, "diversity"): (10.4, 7.4, 6.0, 4.7, 3.4, 2.7),
    (False, "realism"): (-3.04, -2.85, -2.94, -3.41, -4.43, -6.19),
    (False, "recall"): (0.98, 0.85, 0.66, 0.38, 0.11, 0.02),
    (True, "diversity"): (10.6, 7.7, 6.1, 4.9, 3.6, 2.5),
    (True, "realism"): (-3.06, -2.79, -2.73, -2.83, -3.14, -3.54),
}


@pytest.mark.parametrize(("interval", "axis"), TABLE)
def test_the_table_of_exact_guidance(report, interval, axis):
    """Where the four classes lie was not published; these fit the row without guidance, and the rest follows."""
    found, expected = column(report, axis, interval), torch.tensor(TABLE[interval, axis], dtype=torch.float64)
    if axis == "diversity":
        torch.testing.assert_close(found, expected, rtol=0.27, atol=0)
    elif axis == "realism":
        torch.testing.assert_close(found[: 5 if interval else 6], expected[: 5 if interval else 6], rtol=0.14, atol=0)
    else:
        torch.testing.assert_close(found, expected, rtol=0, atol=0.1)


def test_guidance_makes_right_and_makes_alike(report):
    consistency = column(report, "consistency", False)
    assert float(consistency[0]) == pytest.approx(0.989, abs=0.006)
    assert bool((consistency[1:] > 0.9995).all())
    for interval in (False, True):
        for axis in ("diversity", "recall"):
            assert bool((column(report, axis, interval).diff() < 0).all())


def test_guidance_in_an_interval_dominates_from_one_and_a_half_on(report):
    """Of diversity and realism: every plain setting from 1.5 on loses to one in the interval, and none the reverse."""
    plain, within = (
        torch.stack([column(report, axis, interval)[1:] for axis in ("diversity", "realism")], 1)
        for interval in (False, True)
    )
    both = fronts.pareto_mask(torch.cat([plain, within]))
    assert not bool(both[:5].any())
    for rows, other in ((plain, within), (within, plain)):
        lost = (other[None] > rows[:, None]).all(2).any(1)
        assert bool(lost.all()) == (rows is plain)


def test_the_report_says_what_each_setting_costs(report):
    assert report.sweep.axes == ("consistency", "diversity", "realism", "recall", "cost")
    assert column(report, "cost", True).tolist() == [60, 120, 120, 120, 120, 120]
    lines = report.to_markdown().splitlines()
    assert lines[0].startswith("| interval | scale | consistency | diversity | realism | recall | cost |")
    assert len(lines) == 2 + 12 + 2
    assert "Volume dominated from" in lines[-1]
    assert report.volume > 0
    assert report.interval is None  # of one repetition
    assert len([panel for panel in report.plot().axes if panel.collections]) == 10


def test_several_repetitions_have_intervals_and_precision_stands_in_for_realism():
    real = WHOLE.sample(400, generator=generator(0))
    found = bench.pareto(
        make, {"interval": [False], "scale": (1.0, 3.0)}, range(2), consistency=right, features=lambda samples: samples,
        kernel=Gaussian(0.5), real=real, per_condition=60, num_seeds=3,
    )  # fmt: skip
    assert found.sweep.axes == ("consistency", "diversity", "realism", "recall")
    assert found.interval.low <= found.volume <= found.interval.high
    precision = column(found, "realism", False)
    assert bool(((precision >= 0) & (precision <= 1)).all())
    assert "±" in found.to_markdown()
    with pytest.raises(ValueError, match="real: expected real data"):
        bench.pareto(make, {"scale": [1.0]}, range(2), consistency=right, features=lambda samples: samples)


def test_the_volume_of_three_points():
    points = torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    assert fronts.hypervolume(points, [0.0, 0.0]).value == 6


def test_the_vendi_score_of_like_and_unlike_points():
    assert float(vendi(torch.ones(5, 2))) == pytest.approx(1)
    assert float(vendi(torch.eye(5))) == pytest.approx(5)
