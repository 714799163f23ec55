"""Temperature, top-k and top-p as denoisers."""

import pytest
import torch

from clarkia import samplers
from clarkia.guidance.truncate import truncate
from clarkia.oracles import FiniteJoint, MixedJoint
from clarkia.processes import EDM, Masked, Mixed
from clarkia.random import generator
from clarkia.samplers.any_order import AnyOrder
from clarkia.testing import check_denoiser

P = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
PROCESS = Masked((4, 4))
LAW = FiniteJoint(P[:, None] * P)
MASKED = torch.tensor([[4, 4]])


def cut(**options):
    """The law of one masked cell."""
    return truncate(LAW.denoiser(PROCESS), **options)(MASKED, torch.ones(1))[0, 0].exp()


CASES = {
    "half temperature": ({"temperature": 0.5}, P**2 / (P**2).sum()),
    "hot": ({"temperature": 2.0}, P**0.5 / (P**0.5).sum()),
    "greedy": ({"temperature": 0.0}, [1.0, 0, 0, 0]),
    "top 1": ({"top_k": 1}, [1.0, 0, 0, 0]),
    "top 2 keeps the first of equals": ({"top_k": 2}, [5 / 7, 2 / 7, 0, 0]),
    "top 9 is all": ({"top_k": 9}, P),
    "mass below the likeliest": ({"top_p": 0.3}, [1.0, 0, 0, 0]),
    "mass": ({"top_p": 0.6}, [5 / 7, 2 / 7, 0, 0]),
    "more mass": ({"top_p": 0.8}, [5 / 9, 2 / 9, 2 / 9, 0]),
    "all mass": ({"top_p": 1.0}, P),
    # tempered to (25, 4, 4, 1) / 34, the three likeliest (25, 4, 4) / 33, of which two reach 0.8
    "in this order": ({"temperature": 0.5, "top_k": 3, "top_p": 0.8}, [25 / 29, 4 / 29, 0, 0]),
}


@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES.keys())
def test_one_cell_by_hand(options, expected):
    torch.testing.assert_close(cut(**options), torch.as_tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_nothing_asked_changes_nothing():
    denoiser = LAW.denoiser(PROCESS)
    assert truncate(denoiser) is denoiser


@pytest.mark.parametrize("options", [case[0] for case in CASES.values()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_visible_cells_stay_bit_for_bit(options, dtype):
    logits = torch.randn(50, 6, 5, generator=generator(0), dtype=dtype)
    process = Masked((5, 3, 5, 2, 1, 5))
    x = process.corrupt(torch.zeros(50, 6, dtype=torch.int64), torch.full((50,), 0.5), generator=generator(1))

    def denoise(x, t, condition=None):
        return process.log_probs(logits[: len(x)], x, t)

    t = torch.full((50,), 0.5)
    before, after = denoise(x, t), truncate(denoise, **options)(x, t)
    visible = ~process.is_masked(x)
    assert torch.equal(after[visible], before[visible])
    assert after.dtype == dtype
    torch.testing.assert_close(after.exp().sum(-1), torch.ones(50, 6, dtype=dtype))
    assert bool((after == -torch.inf)[before == -torch.inf].all())
    check_denoiser(truncate(lambda x, t: process.log_probs(torch.zeros(*x.shape, 5), x, t), **options), process,
                   torch.zeros(8, 6, dtype=torch.int64))  # fmt: skip


def test_continuous_blocks_pass_through_and_conditions_arrive():
    table = MixedJoint([[0.1, 0.2], [0.3, 0.4]], torch.randn(2, 2, 2, generator=generator(0)), 0.1)
    process = Mixed(numeric=EDM, levels=Masked((2, 2)))
    seen = []

    def denoise(x, t, condition=None):
        seen.append(condition)
        return table.denoiser(process)(x, t)

    x = process.prior(5, table.space.shape, generator=generator(2))
    t = torch.full((5,), 0.9)
    plain, sharp = denoise(x, t), truncate(denoise, top_k=1)(x, t, "given")
    assert seen == [None, "given"]
    assert torch.equal(sharp["numeric"], plain["numeric"])
    assert sharp["levels"].exp().tolist() == [[[0.0, 1.0], [0.0, 1.0]]] * 5


def test_greedy_decoding_always_ends_in_the_same_state():
    x = samplers.sample(
        truncate(LAW.denoiser(PROCESS), temperature=0.0), PROCESS, num_samples=50, solver=AnyOrder(),
        generator=generator(3),
    )  # fmt: skip
    assert bool((x == 0).all())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        truncate(LAW.denoiser(PROCESS), **options)
