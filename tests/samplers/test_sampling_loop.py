"""The loop: arguments, known cells, hooks, and rows that do not depend on the batch."""

from dataclasses import replace

import pytest
import torch

from clarkia import samplers, schedules
from clarkia.oracles import GaussianMixture, MixedJoint
from clarkia.processes import EDM, Masked, Mixed, VarianceExploding, VariancePreserving
from clarkia.random import RowBlocks, generator
from clarkia.samplers import Ancestral, DPMSolverPP, Euler, Heun

MIXTURE = GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.0, 0.5]], [[[0.3, 0.1], [0.1, 0.2]]] * 2)
TABLE = MixedJoint(
    [[0.1, 0.2], [0.3, 0.1], [0.1, 0.2]],
    torch.randn(3, 2, 2, generator=generator(0)),
    0.1,
)
PROCESS = Mixed(
    numeric=VarianceExploding(rho=torch.tensor([7.0, 9.0])),
    levels=Masked((3, 2), schedules.PolynomialMask(torch.tensor([1.0, 1.5]))),
)
DENOISER = TABLE.denoiser(PROCESS)
SOLVERS = {
    "heun": samplers.Mixed(),
    "tabdiff": samplers.Mixed(Heun(churn=1.0), Ancestral(remask=1.0)),
    "2m": samplers.Mixed(numeric=DPMSolverPP(), categorical=Ancestral("stratified")),
    "by name": samplers.Mixed(numeric=Euler(), levels=Ancestral("stratified", remask=3.0)),
}


def draw(rows=6, start=0, solver=None, **options):
    return samplers.sample(
        DENOISER, PROCESS, num_samples=rows, shape=TABLE.space, solver=solver, num_steps=8,
        generator=RowBlocks(3, start, rows), **options,
    )  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_a_row_does_not_depend_on_the_batch(solver):
    whole, part = draw(1500, solver=solver), draw(40, start=1010, solver=solver)
    for name in whole:
        torch.testing.assert_close(part[name], whole[name][1010:1050], rtol=1e-4, atol=1e-5)
    again = draw(1500, solver=solver)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_known_cells_come_out_bit_for_bit(solver):
    noise = generator(1)
    values = {"numeric": torch.randn(500, 2, generator=noise), "levels": torch.randint(0, 2, (500, 2), generator=noise)}
    mask = {name: torch.rand(500, 2, generator=noise) < 0.5 for name in values}
    trace = samplers.Trace()
    x = draw(500, solver=solver, known=(values, mask), hooks=[trace])
    for state in [*trace.states, x]:
        assert all(torch.equal(state[name][mask[name]], values[name][mask[name]]) for name in values)
    assert not bool(PROCESS.blocks["levels"].is_masked(x["levels"]).any())
    assert float((x["numeric"] - values["numeric"])[~mask["numeric"]].abs().min()) > 0


def test_known_cells_are_shown_at_time_zero():
    """Known cells are shown at time 0, blocks without any at one time a row; one row of values serves all rows."""
    seen = []

    def watch(x, t, condition=None):
        seen.append((x, t))
        return DENOISER(x, t)

    known = ({"numeric": torch.tensor([[0.5, torch.nan]])}, {"numeric": torch.tensor([[True, False]])})
    x = samplers.sample(
        watch, PROCESS, num_samples=4, shape=TABLE.space, known=known, num_steps=3, generator=generator(2)
    )
    assert x["numeric"][:, 0].tolist() == [0.5] * 4
    for state, t in seen:
        assert t["numeric"][:, 0].tolist() == [0.0] * 4
        assert state["numeric"][:, 0].tolist() == [0.5] * 4
        assert t["levels"].shape == (4,)
        assert t["numeric"].dtype == t["levels"].dtype == torch.float32
    assert len(seen) == 5  # Heun: two evaluations a step, one in the last


def test_known_cells_hold_whatever_the_solver_does():
    class Restless(samplers.Staged):
        def init(self, x, process, generator=None):
            return None

        def stages(self, process, x, t, s, carry, generator=None):
            x0_hat = yield x, t
            return x0_hat + 1, None

    known = (torch.tensor([[0.1, 0.0]]), torch.tensor([[True, False]]))
    x = samplers.sample(MIXTURE.denoiser(EDM), EDM, num_samples=3, known=known, solver=Restless(), num_steps=2)
    assert torch.equal(x[:, 0], torch.full((3,), 0.1))


def test_churn_never_leaves_the_time_axis():
    """Times shown to the denoiser stay in [0, 1], also where a churned step starts close to 1."""
    seen = []

    def watch(x, t, condition=None):
        seen.append(t)
        return DENOISER(x, t)

    solver = samplers.Mixed(Heun(churn=20.0), Ancestral(remask=20.0))
    samplers.sample(
        watch, PROCESS, num_samples=4, shape=TABLE.space, solver=solver, generator=generator(12),
        times=torch.tensor([1.0, 0.999, 0.9, 0.5, 0.0]),
    )  # fmt: skip
    for t in seen:
        assert all(0 <= float(time.min()) <= float(time.max()) <= 1 for time in t.values())
    assert float(seen[2]["numeric"].max()) == pytest.approx(0.999)  # one step's churn would pass 1 and is left out
    assert float(seen[4]["numeric"].min()) > 0.901


def test_number_of_evaluations():
    for solver, expected in ((Euler(), 7), (DPMSolverPP(), 7), (Heun(), 13)):
        calls = []

        def count(x, t, condition=None, calls=calls):
            calls.append(condition)
            return MIXTURE.denoiser(EDM)(x, t)

        samplers.sample(count, EDM, num_samples=3, shape=(2,), solver=solver, num_steps=7, condition="given")
        assert calls == ["given"] * expected


def test_the_correction_sees_categories_before_they_are_revealed():
    """Both evaluations of one lock-step Heun step show the same categories, at the same time of their own."""
    states, times = [], []

    def watch(x, t, condition=None):
        states.append(x)
        times.append(t)
        return DENOISER(x, t)

    samplers.sample(watch, PROCESS, num_samples=50, shape=TABLE.space, num_steps=3, generator=generator(3))
    for first in (0, 2):
        assert torch.equal(states[first]["levels"], states[first + 1]["levels"])
        assert torch.equal(times[first]["levels"], times[first + 1]["levels"])
        assert not torch.equal(states[first]["numeric"], states[first + 1]["numeric"])
    assert not torch.equal(states[1]["levels"], states[2]["levels"])


def test_rows_may_walk_their_own_grids():
    """A batch of rows on two grids equals each run on its own grid."""
    process, denoise = VariancePreserving(), MIXTURE.denoiser(VariancePreserving())
    start = torch.randn(2, 2, generator=generator(4), dtype=torch.float64)
    grids = torch.tensor([[1.0, 0.5, 0.2, 0.0], [0.6, 0.6, 0.1, 0.0]], dtype=torch.float64)
    for solver in (Euler(), Heun(), DPMSolverPP()):
        both = samplers.sample(denoise, process, initial=start, solver=solver, times=grids.T)
        first = samplers.sample(denoise, process, initial=start[:1], solver=solver, times=grids[0])
        second = samplers.sample(denoise, process, initial=start[1:], solver=solver, times=grids[1, 1:])
        torch.testing.assert_close(both[:1], first, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(both[1:], second, rtol=1e-12, atol=1e-12)


def test_no_rows_are_drawn_where_none_are_asked_for():
    x = samplers.sample(MIXTURE.denoiser(EDM), EDM, num_samples=0, shape=(2,), num_steps=3)
    assert x.shape == (0, 2)
    mixed = samplers.sample(DENOISER, PROCESS, num_samples=0, shape=TABLE.space, num_steps=3)
    assert {name: len(block) for name, block in mixed.items()} == {"numeric": 0, "levels": 0}


@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP(3)], ids=["euler", "heun", "3m"])
def test_a_run_evaluates_its_schedule_once(solver):
    """Where all rows share their times; the process that was given knows nothing of it afterwards."""
    asked = []

    class Watched(VariancePreserving):
        def sigma(self, t):
            asked.append(t.numel())
            return super().sigma(t)

    process, plain = Watched(), VariancePreserving()
    start = torch.randn(5, 2, generator=generator(4), dtype=torch.float64)
    x = samplers.sample(MIXTURE.denoiser(plain), process, initial=start, solver=solver, num_steps=7)
    assert asked == [8]
    own = schedules.uniform(7).unsqueeze(1).repeat(1, 5)
    same = samplers.sample(MIXTURE.denoiser(plain), plain, initial=start, solver=solver, times=own)
    torch.testing.assert_close(x, same, rtol=1e-12, atol=1e-12)
    assert process._table is None


def test_a_run_may_start_and_stop_anywhere():
    process = Masked((3, 3, 3, 3))
    x_t = torch.tensor([[3, 0, 3, 3]]).expand(2000, 4)
    logits = torch.zeros(2000, 4, 3)
    for order in ("independent", "stratified"):
        x = samplers.sample(
            lambda x, t: process.log_probs(logits, x), process, initial=x_t, solver=Ancestral(order),
            times=torch.tensor([0.75, 0.5, 0.25]), generator=generator(5),
        )  # fmt: skip
        assert bool((x[:, 1] == 0).all())
        masked = process.is_masked(x).sum(1)
        assert float(masked.double().mean()) == pytest.approx(1.0, abs=0.08)  # of three masked at 0.75, a third at 0.25
        assert order == "independent" or bool((masked == 1).all())


def test_hooks_see_every_step_and_may_change_it():
    class Shift:
        def __init__(self):
            self.steps = []

        def on_step(self, step):
            self.steps.append((step.index, step.total, float(step.t[0]), float(step.s[0])))
            assert step.prediction.shape == step.x.shape
            return replace(step, x=step.x + (100.0 if step.index == step.total - 1 else 0.0))

    hook, trace = Shift(), samplers.Trace(every=2)
    known = (torch.zeros(1, 2), torch.tensor([[True, False]]))
    x = samplers.sample(
        MIXTURE.denoiser(EDM), EDM, num_samples=5, known=known, num_steps=3, hooks=[hook, trace], generator=generator(6)
    )
    assert hook.steps == [
        (0, 3, 1.0, pytest.approx(2 / 3)),
        (1, 3, pytest.approx(2 / 3), pytest.approx(1 / 3)),
        (2, 3, pytest.approx(1 / 3), 0.0),
    ]
    assert float(x[:, 1].min()) > 50
    assert bool((x[:, 0] == 0).all())  # a hook cannot move what is known
    assert [float(t[0]) for t in trace.times] == [pytest.approx(1 / 3), 0.0]


class Reverse:
    """Turns the batch over after the third step, with or without the solver's history."""

    def __init__(self, with_carry=True):
        self.with_carry = with_carry

    def on_step(self, step):
        if step.index != 2:
            return step
        order = torch.arange(len(step.x) - 1, -1, -1)
        carry = samplers.take_carry(step.carry, order) if self.with_carry else step.carry
        return replace(step, x=step.x[order], carry=carry)


def test_a_hook_may_reorder_rows_with_their_history():
    """Turning state and carry over together turns the result over; the state alone does not."""
    initial = EDM.prior(8, (2,), generator=generator(7), dtype=torch.float64)

    def run(*hooks):
        return samplers.sample(
            MIXTURE.denoiser(EDM), EDM, initial=initial, num_steps=6, solver=DPMSolverPP(), hooks=hooks
        )

    torch.testing.assert_close(run(Reverse()).flip(0), run(), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(run(Reverse(with_carry=False)).flip(0), run())


def test_carries_of_all_shapes_are_reordered():
    order = torch.tensor([1, 0])
    moments = torch.tensor([[0.1], [0.2]])
    carry = {"levels": (moments, False), "numeric": (moments, None), "none": None}
    turned = samplers.take_carry(carry, order)
    assert torch.equal(turned["levels"][0], moments.flip(0))
    assert turned["levels"][1] is False
    assert torch.equal(turned["numeric"][0], moments.flip(0))
    assert turned["none"] is None


def test_cells_masked_again_by_a_hook_are_drawn_again():
    """A corrector that hides every cell again at each step must not break the run or leave a mask."""
    process = Masked((3, 3))

    class Hide:
        def on_step(self, step):
            return replace(step, x=torch.full_like(step.x, 3)) if step.index < step.total - 1 else step

    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(50_000, 2, 3)
    x = samplers.sample(
        lambda x, t: process.log_probs(logits, x), process, num_samples=50_000, num_steps=4, hooks=[Hide()],
        generator=generator(9),
    )  # fmt: skip
    share = torch.bincount(x[:, 0], minlength=4) / 50_000
    assert share[3] == 0
    assert float((share[:3] - torch.tensor([0.5, 0.3, 0.2])).abs().max()) < 4 * 0.5 / 50_000**0.5


def test_remasking_revises_but_never_known_cells():
    process = Masked((3,) * 6)
    trace = samplers.Trace()
    logits = torch.zeros(400, 6, 3)
    known = (torch.zeros(1, 6, dtype=torch.int64), torch.tensor([[True] + [False] * 5]))
    samplers.sample(
        lambda x, t: process.log_probs(logits, x), process, num_samples=400, known=known, num_steps=30,
        solver=Ancestral(remask=10.0), hooks=[trace], generator=generator(10),
    )  # fmt: skip
    states = torch.stack(trace.states)
    changed = (states[1:] != states[:-1]) & (states[:-1] != 3)
    assert int(changed[..., 1:].sum()) > 100
    assert int((states[..., 0] != 0).sum()) == 0


def test_progress_goes_to_the_error_stream(capsys):
    samplers.sample(
        MIXTURE.denoiser(EDM), EDM, num_samples=2, shape=(2,), num_steps=2, hooks=[samplers.Progress("Walking")]
    )
    assert capsys.readouterr().out == ""


def run(**options):
    arguments = {"num_samples": 2, "shape": (2,), "generator": generator(11), **options}
    return samplers.sample(arguments.pop("denoiser", MIXTURE.denoiser(EDM)), arguments.pop("process", EDM), **arguments)


WRONG = {
    "both starts": ({"initial": torch.zeros(2, 2)}, "found both"),
    "no start": ({"num_samples": None}, "found neither"),
    "both grids": ({"num_steps": 3, "times": schedules.uniform(3)}, "found both"),
    "steps": ({"num_steps": 0}, "num_steps"),
    "rising": ({"times": torch.tensor([0.0, 1.0])}, "decreasing"),
    "outside": ({"times": torch.tensor([2.0, 0.0])}, r"\[0, 1\]"),
    "rows": ({"times": torch.zeros(3, 5)}, "each of 2 rows"),
    "shape": ({"shape": None}, "shape"),
    "nan": ({"denoiser": lambda x, t: x * torch.nan}, "NaN at time 1, row 0"),
    "wrong shape": ({"denoiser": lambda x, t: x[:, :1]}, r"\(2, 2\), found \(2, 1\)"),
    "solver": ({"solver": Ancestral()}, "Ancestral expects a Discrete process"),
    "known pair": ({"known": ({"a": torch.zeros(2, 2)}, torch.ones(2, 2) > 0)}, "pair of tensors"),
    "known shape": ({"known": (torch.zeros(2, 3), torch.ones(2, 3) > 0)}, r"\(2, 2\) or one row, found \(2, 3\)"),
    "known mask": ({"known": (torch.zeros(2, 2), torch.ones(2, 2))}, "bool mask"),
    "known nan": ({"known": (torch.tensor([[0.0, 0.0], [torch.nan, 0.0]]), torch.ones(2, 2) > 0)}, "in row 1"),
    "known class": (
        {"process": Masked((3, 2)), "known": (torch.tensor([[3, 0]]), torch.tensor([[True, True]]))},
        "known values: expected classes from 0 to 2",
    ),
}


@pytest.mark.parametrize(("options", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        run(**options)


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        (Heun(), "samplers.Mixed for a mixed process, found Heun"),
        (samplers.Mixed(other=Euler()), r"\['other'\]"),
        (samplers.Mixed(numeric=Ancestral()), "expects a Discrete process"),
    ],
)
def test_solvers_that_do_not_fit_are_refused(solver, words):
    with pytest.raises(ValueError, match=words):
        draw(solver=solver)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Heun(churn=-1.0),
        lambda: Ancestral("sorted"),
        lambda: Ancestral(remask=-1.0),
        lambda: DPMSolverPP(order=5),
        lambda: DPMSolverPP(stochasticity=-1.0),
        lambda: DPMSolverPP(variant="heun"),
        lambda: samplers.Mixed(numeric="euler"),
    ],
)
def test_wrong_options_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
