"""The T-step bound of an energy-corrected denoiser with nothing drawn: every mask, every set revealed, every row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser
from clarkia.measures.likelihood.enumeration import MAX_STATES
from clarkia.measures.likelihood.evaluate import check_data, predict
from clarkia.measures.likelihood.joint import check_process
from clarkia.measures.likelihood.result import Likelihood, certain
from clarkia.processes import Masked, spread
from clarkia.samplers.joint import Energy, checked


@torch.no_grad()
def enumerated_joint_elbo(
    denoiser: Denoiser, process: Masked, x: Int[Tensor, "n L"], energy: Energy, *, num_steps: int
) -> Likelihood:
    """`joint_elbo` of a few categories as a sum over all masks, all sets to reveal and all clean rows.

    Args:
        denoiser: ``denoiser(x_t, t)``.
        process: Its masked process.
        x: Clean classes, ``(n, L)``.
        energy: ``energy(x_0, x_t, t, log_probs) -> (n,)``, shown every clean row beside each row of ``x``.
        num_steps: T, on an even grid of times.

    Returns:
        Nats of kind ``"T-step bound"``, without error.

    Raises:
        ValueError: Data that do not fit the process, a wrong argument, or more than 65,536 clean rows or pairs of sets.
    """
    check_process(process)
    check_data(process, x)
    length = x.shape[1]
    counts = process.counts().expand(length).tolist()
    clean = torch.cartesian_prod(*(torch.arange(count) for count in counts)).reshape(-1, length).to(x.device)
    if len(clean) > MAX_STATES or 3**length > MAX_STATES or num_steps < 1:
        raise ValueError(
            f"x, num_steps: expected at most {MAX_STATES} clean rows and pairs of sets and at least one step, "
            f"found {len(clean)}, {3**length} and {num_steps}."
        )
    nats = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for t, s in itertools.pairwise(schedules.uniform(num_steps).to(x.device)):
        time, end = t.expand(len(x)), s.expand(len(x))
        hidden = (1 - process.alpha(spread(time, x))).expand(len(x), length)[0]
        stay = process.stay(spread(time, x), spread(end, x)).expand(len(x), length)[0]
        for masked in _sets(torch.ones(length, dtype=torch.bool, device=x.device)):
            chance = torch.where(masked, hidden, 1 - hidden).prod()
            if not masked.any() or chance == 0:
                continue
            law = _joint(denoiser, process, x, energy, masked, time, clean)
            for revealed in _sets(masked):
                share = chance * torch.where(masked, torch.where(revealed, 1 - stay, stay), 1.0).prod()
                if revealed.any() and share > 0:
                    agrees = (clean[:, revealed] == x[:, None, revealed]).all(-1)
                    nats += share * torch.where(agrees, law, -torch.inf).logsumexp(1)
    return certain(nats, "T-step bound")


def _joint(
    denoiser: Denoiser, process: Masked, x: Tensor, energy: Energy, masked: Tensor, t: Tensor, clean: Tensor
) -> Float[Tensor, "n cells"]:
    """``log p(x_0 | x_t)`` of every clean row, given each row of x with some cells masked."""
    x_t = torch.where(masked, process.mask_state(x.device), x)
    log_probs = predict(denoiser, process, x_t, t)
    cells = torch.arange(x.shape[1], device=x.device)
    log_weights = log_probs[:, cells, clean].sum(-1)
    row, candidate = (log_weights > -torch.inf).nonzero().T
    energies = checked(energy, clean[candidate], x_t[row], t[row], log_probs[row])
    return log_weights.index_put((row, candidate), -energies, accumulate=True).log_softmax(1)


def _sets(whole: Bool[Tensor, " L"]) -> Iterator[Bool[Tensor, " L"]]:
    """All subsets of a set of cells."""
    for choice in itertools.product((False, True), repeat=int(whole.sum())):
        part = torch.zeros_like(whole)
        part[whole] = torch.tensor(choice, dtype=torch.bool, device=whole.device)
        yield part
