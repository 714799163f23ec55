"""Order samplers in the one loop: their own times, finished rows, known cells, counts, and the output cache."""

from dataclasses import replace

import pytest
import torch

from clarkia import samplers
from clarkia.oracles import FiniteJoint, MixedJoint
from clarkia.processes import EDM, Masked, Mixed
from clarkia.random import RowBlocks, generator
from clarkia.samplers import Euler
from clarkia.samplers.any_order import AnyOrder
from clarkia.samplers.cache import OutputCache
from clarkia.samplers.counts import EntropyBudget, Equal, Factor, Scheduled, Threshold, Tokens
from clarkia.samplers.first_hitting import FirstHitting
from clarkia.samplers.live import on_live_rows
from clarkia.samplers.policies import Blocks, Confidence, Entropy, Margin, Position, SampledConfidence
from clarkia.samplers.remdm import ReMDM
from clarkia.testing import check_solver

LAW = FiniteJoint((table := torch.rand(3, 2, 4, 3, generator=generator(0), dtype=torch.float64)) / table.sum())
PROCESS = Masked((3, 2, 4, 3))
DENOISER = LAW.denoiser(PROCESS)
OWN = {
    "first hitting": FirstHitting(),
    "pairs": FirstHitting((1, 2)),
    "random": AnyOrder(),
    "entropy budget": AnyOrder(Entropy(), EntropyBudget(0.5)),
    "threshold": AnyOrder(Confidence(), Threshold(0.5)),
    "factor": AnyOrder(Margin(), Factor(1.2)),
    "blocks": AnyOrder(Blocks(Entropy(), 2), Tokens(2)),
    "sampled": AnyOrder(SampledConfidence(noise=0.5), Tokens(2)),
    "revised": AnyOrder(SampledConfidence(revise=True), Tokens(2)),
}
GIVEN = {
    "equal": AnyOrder(Position(), Equal()),
    "scheduled": AnyOrder(SampledConfidence(revise=True), Scheduled()),
    "remdm": ReMDM("rescale", 0.3),
    "remdm by confidence": ReMDM("confidence", 0.9),
    "remdm held": ReMDM("cap", 0.3, hold=(0.6, 0.3, 0.7)),
}
ALL = {**OWN, **GIVEN}


class Watch:
    """A denoiser that remembers what it was shown."""

    def __init__(self, denoiser=DENOISER):
        self.denoiser, self.calls = denoiser, []

    def __call__(self, x, t, condition=None):
        self.calls.append((x, t, condition))
        return self.denoiser(x, t)


def draw(solver, rows=40, start=0, denoiser=DENOISER, **options):
    steps = {"num_steps": 6} if solver in GIVEN.values() else {}
    return samplers.sample(
        denoiser, PROCESS, num_samples=rows, solver=solver, generator=RowBlocks(3, start, rows), **steps, **options
    )


@pytest.mark.parametrize("solver", ALL.values(), ids=ALL.keys())
def test_the_contract_of_solvers(solver):
    check_solver(solver, PROCESS, DENOISER, LAW.sample(64, generator=generator(1)))


@pytest.mark.parametrize("solver", ALL.values(), ids=ALL.keys())
def test_a_row_does_not_depend_on_the_batch(solver):
    assert torch.equal(draw(solver, 30, start=1010), draw(solver, 1500)[1010:1040])


@pytest.mark.parametrize("solver", ALL.values(), ids=ALL.keys())
def test_known_cells_are_held_at_time_zero(solver):
    noise = generator(2)
    values, mask = LAW.sample(200, generator=noise), torch.rand(200, 4, generator=noise) < 0.5
    watch, trace = Watch(), samplers.Trace()
    x = draw(solver, 200, denoiser=watch, known=(values, mask), hooks=[trace])
    for state in [*trace.states, x]:
        assert torch.equal(state[mask], values[mask])
    assert not bool(PROCESS.is_masked(x).any())
    for shown, t, _ in watch.calls:
        assert t.shape == shown.shape
        assert bool((t[PROCESS.is_masked(shown)] > 0).all())
        assert bool(((t > 0).any(1)).all())
        assert float(t.max()) <= 1


def test_one_call_for_each_cell_or_group():
    for solver, calls in ((FirstHitting(), 4), (FirstHitting(3), 2), (AnyOrder(), 4), (AnyOrder(count=Tokens(4)), 1)):
        watch = Watch()
        draw(solver, denoiser=watch)
        assert [len(x) for x, _, _ in watch.calls] == [40] * calls
    watch = Watch()
    draw(FirstHitting((1, 2)), denoiser=watch)
    assert [int(PROCESS.is_masked(x).sum(1)[0]) for x, _, _ in watch.calls] == [4, 3, 1]


@pytest.mark.parametrize("solver", [FirstHitting(), AnyOrder(Entropy())], ids=["first hitting", "any order"])
def test_finished_rows_are_not_shown_to_the_denoiser(solver):
    """Rows with 0, 1, ... 4 unknown cells take as many calls, with the conditions of the rows that are left."""
    values = LAW.sample(5, generator=generator(4))
    mask = torch.arange(4).expand(5, 4) >= torch.arange(5).unsqueeze(1)
    labels = torch.arange(5)
    watch = Watch()
    x = draw(solver, 5, denoiser=watch, known=(values, mask), condition={"row": labels, "shared": torch.zeros(2)})
    assert [condition["row"].tolist() for _, _, condition in watch.calls] == [[1, 2, 3, 4], [2, 3, 4], [3, 4], [4]]
    assert [len(condition["shared"]) for _, _, condition in watch.calls] == [2] * 4
    assert [len(x) for x, _, _ in watch.calls] == [4, 3, 2, 1]
    assert torch.equal(x[0], values[0])
    watch = Watch()
    draw(solver, 5, denoiser=watch, known=(values, mask), condition="one for all")
    assert [len(x) for x, _, _ in watch.calls] == [5] * 4
    assert torch.equal(x, draw(solver, 5, known=(values, mask)))


def test_finished_rows_are_answered_by_themselves():
    process = Mixed(numeric=EDM, levels=Masked((3, 2)))
    law = MixedJoint(torch.full((3, 2), 1 / 6), torch.randn(3, 2, 2, generator=generator(5)), 0.1)
    x = {"numeric": torch.randn(3, 2), "levels": torch.tensor([[0, 1], [3, 2], [3, 0]])}
    t = {"numeric": torch.tensor([0.0, 0.5, 0.0]), "levels": torch.tensor([[0.0, 0.0], [0.5, 0.5], [0.5, 0.0]])}
    watch = Watch(law.denoiser(process))
    answer = on_live_rows(watch, x, t)
    assert len(watch.calls[0][0]["levels"]) == 2
    assert torch.equal(answer["numeric"][0], x["numeric"][0])
    assert answer["levels"][0].exp().tolist() == [[1, 0, 0], [0, 1, 0]]
    whole = law.denoiser(process)(x, t)
    for name in x:
        torch.testing.assert_close(answer[name].exp(), whole[name].exp(), rtol=1e-6, atol=1e-6)


def test_wrong_answers_about_some_rows_are_refused_like_any_other():
    values = LAW.sample(3, generator=generator(4))
    mask = torch.tensor([[True] * 4, [False] * 4, [False] * 4])
    for wrong in (lambda x, t: DENOISER(x, t)[:, :2], lambda x, t: DENOISER(x, t)[..., :2], lambda x, t: None):
        with pytest.raises(ValueError, match=r"denoiser: expected prediction of shape"):
            draw(FirstHitting(), 3, denoiser=wrong, known=(values, mask))


def test_adaptive_counts_end_the_run_when_nothing_is_masked():
    class Last:
        steps = ()

        def on_step(self, step):
            self.steps = (*self.steps, (step.index, step.total))
            return step

    last, trace, watch = Last(), samplers.Trace(every=10), Watch()
    draw(AnyOrder(Confidence(), Threshold(0.0)), denoiser=watch, hooks=[last, trace, samplers.Progress()])
    assert last.steps == ((0, 1),)
    assert len(trace.states) == len(watch.calls) == 1


def test_the_denoiser_is_shown_the_time_of_as_many_masks():
    """With the cosine schedule ``1 - alpha = sin(pi t / 2)`` is the share of the unknown cells still masked."""
    process = Masked((3, 2, 4, 3), "cosine")
    known = (torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[True, False, False, False]]))
    for evidence, unknown in ((None, 4), (known, 3)):
        watch = Watch()
        samplers.sample(watch, process, num_samples=7, solver=AnyOrder(), generator=generator(6), known=evidence)
        for left, (_, t, _) in zip(range(unknown, 0, -1), watch.calls, strict=True):
            level = torch.sin(torch.pi / 2 * t).reshape(7, -1)[:, -1]
            torch.testing.assert_close(level, torch.full((7,), left / unknown), rtol=1e-6, atol=1e-6)


def test_counts_that_follow_a_grid():
    """Ten cells in four steps: two or three a step evenly, by MaskGIT's schedule few first."""
    for count, schedule, expected in (
        (Equal(), "cosine", [8, 5, 2, 0]),
        (Scheduled(), "linear", [8, 5, 2, 0]),
        (Scheduled(), "cosine", [9, 7, 4, 0]),
    ):
        process, trace = Masked((2,) * 10, schedule), samplers.Trace()
        samplers.sample(
            lambda x, t, process=process: process.log_probs(torch.zeros(*x.shape, 2), x, t), process, num_samples=3,
            solver=AnyOrder(count=count), num_steps=4, generator=generator(7), hooks=[trace],
        )  # fmt: skip
        assert [process.is_masked(x).sum(1).tolist() for x in trace.states] == [[left] * 3 for left in expected]


def test_blocks_go_from_left_to_right():
    trace = samplers.Trace()
    draw(AnyOrder(Blocks(Entropy(), 2)), hooks=[trace])
    masked = [PROCESS.is_masked(x) for x in trace.states]
    assert not bool(masked[1][:, :2].any())
    assert bool(masked[1][:, 2:].all())


def test_a_given_order_is_kept():
    trace = samplers.Trace()
    draw(AnyOrder(Position((2, 0, 3, 1))), hooks=[trace])
    assert [PROCESS.is_masked(x)[0].tolist() for x in trace.states] == [
        [True, True, False, True], [False, True, False, True], [False, True, False, False], [False] * 4,
    ]  # fmt: skip


def test_revision_takes_back_what_was_drawn_against_the_odds():
    """Cells drawn at first with little confidence go back; known ones and the number of visible cells do not change."""
    process, trace = Masked((4,) * 12), samplers.Trace()
    logits = torch.randn(400, 12, 4, generator=generator(8))
    known = (torch.zeros(1, 12, dtype=torch.int64), torch.tensor([[True] * 2 + [False] * 10]))
    x = samplers.sample(
        lambda x, t: process.log_probs(logits, x, t), process, num_samples=400, known=known,
        solver=AnyOrder(SampledConfidence(revise=True), Tokens(2)), generator=generator(9), hooks=[trace],
    )  # fmt: skip
    states = torch.stack(trace.states)
    back = process.is_masked(states[1:]) & ~process.is_masked(states[:-1])
    assert int(back.sum()) > 0
    assert not bool(back[..., :2].any())
    assert process.is_masked(states).sum(2).tolist() == [[left] * 400 for left in (8, 6, 4, 2, 0)]
    plain = samplers.sample(
        lambda x, t: process.log_probs(logits, x, t), process, num_samples=400, known=known,
        solver=AnyOrder(SampledConfidence(), Tokens(2)), generator=generator(9),
    )  # fmt: skip
    likely = [torch.log_softmax(logits, -1).gather(-1, one.unsqueeze(-1)).mean() for one in (x, plain)]
    assert likely[0] > likely[1]


def test_cells_masked_again_by_a_hook_are_drawn_again():
    class Hide:
        def on_step(self, step):
            return replace(step, x=torch.full_like(step.x, 3)) if step.index < 2 else step

    process = Masked((3, 3, 3))
    for solver in (FirstHitting(), AnyOrder()):
        x = samplers.sample(
            lambda x, t: process.log_probs(torch.zeros(*x.shape, 3), x, t), process, num_samples=100, hooks=[Hide()],
            solver=solver, generator=generator(10),
        )  # fmt: skip
        assert not bool(process.is_masked(x).any())


def test_nothing_masked_is_nothing_to_do():
    x = LAW.sample(5, generator=generator(11))
    for solver in (FirstHitting(), AnyOrder()):
        watch = Watch()
        assert torch.equal(samplers.sample(watch, PROCESS, initial=x, solver=solver), x)
        assert watch.calls == []


def test_states_of_two_axes_and_schedules_a_position():
    process = Masked(3)
    for solver in (FirstHitting(), AnyOrder(Blocks(Confidence(), 3)), AnyOrder(SampledConfidence(revise=True))):
        x = samplers.sample(
            lambda x, t: process.log_probs(torch.zeros(*x.shape, 3), x, t), process, num_samples=6, shape=(2, 3),
            solver=solver, generator=generator(12),
        )  # fmt: skip
        assert x.shape == (6, 2, 3)
        assert int(x.max()) < 3


def test_orders_among_the_blocks_of_a_mixed_state():
    process = Mixed(numeric=EDM, levels=Masked((3, 2)))
    law = MixedJoint(torch.full((3, 2), 1 / 6), torch.randn(3, 2, 2, generator=generator(5)), 0.1)
    for solver in (AnyOrder(Entropy(), Equal()), FirstHitting(), ReMDM()):
        x = samplers.sample(
            law.denoiser(process), process, num_samples=50, shape=law.space, num_steps=8, generator=generator(13),
            solver=samplers.Mixed(Euler(), solver),
        )  # fmt: skip
        assert not bool(process.blocks["levels"].is_masked(x["levels"]).any())


def test_the_cache_forgets_another_batch_and_another_condition():
    watch = Watch()
    cache = OutputCache(watch, PROCESS)
    x, t = PROCESS.prior(3), torch.ones(3)
    x[1, 0], x[2] = 1, torch.tensor([0, 0, 0, 0])
    first = cache(x, t)
    assert torch.equal(first, DENOISER(x, t))
    assert cache(x, t) is first
    moved = x.clone()
    moved[0, 1], moved[1] = 0, torch.tensor([1, 0, 2, 1])  # one row goes on, another is done
    kept = first.clone()
    assert torch.equal(cache(moved, t), DENOISER(moved, t))
    assert torch.equal(first, kept)  # an answer given once is not written over
    assert [len(state) for state, _, _ in watch.calls] == [3, 1]
    assert cache.calls.tolist() == [2, 1, 1]
    cache(moved, t, torch.tensor([7, 8, 9]))
    assert [len(state) for state, _, _ in watch.calls] == [3, 1, 3]
    cache(moved[:2], t[:2])
    assert cache.calls.tolist() == [1, 1]
    with pytest.raises(ValueError, match="masked process"):
        OutputCache(watch, EDM)


def test_a_cached_condition_goes_with_its_row():
    watch = Watch()
    cache, condition = OutputCache(watch, PROCESS), torch.tensor([7, 8])
    x, t = PROCESS.prior(2), torch.ones(2)
    cache(x, t, condition)
    moved = x.clone()
    moved[1, 0] = 1
    cache(moved, t, condition)
    assert [given.tolist() for _, _, given in watch.calls] == [[7, 8], [8]]


@pytest.mark.parametrize("options", [{"num_steps": 3}, {"times": torch.tensor([1.0, 0.5, 0.0])}])
@pytest.mark.parametrize("solver", [FirstHitting(), AnyOrder()])
def test_solvers_with_their_own_times_take_none(solver, options):
    with pytest.raises(ValueError, match="num_steps, times: expected neither"):
        samplers.sample(DENOISER, PROCESS, num_samples=2, solver=solver, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FirstHitting(0),
        lambda: FirstHitting(()),
        lambda: FirstHitting((2, 0)),
        lambda: Tokens(0),
        lambda: EntropyBudget(-1.0),
        lambda: Blocks(Entropy(), 0),
        lambda: Position((0, 2)),
        lambda: SampledConfidence(noise=-1.0),
        lambda: ReMDM("sorted"),
        lambda: ReMDM(eta=1.5),
        lambda: ReMDM(hold=(0.3, 0.6, 0.9)),
        lambda: ReMDM(hold=(0.6, 0.0, 0.9)),
        lambda: ReMDM(hold=(0.6, 0.3, 1.0)),
    ],
)
def test_wrong_options_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


@pytest.mark.parametrize("solver", [FirstHitting(), AnyOrder(), ReMDM()])
def test_only_masked_processes(solver):
    with pytest.raises(ValueError, match="expects a Masked process"):
        samplers.sample(lambda x, t: x, EDM, num_samples=2, shape=(2,), solver=solver)


def test_a_given_order_fits_the_cells():
    with pytest.raises(ValueError, match="permutation of 4 positions, found 3"):
        draw(AnyOrder(Position((0, 1, 2))))
