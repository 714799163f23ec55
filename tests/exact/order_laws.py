"""The exact law of a sampler that chooses cells, by recursion over partial states with the sampler's own choices."""

import itertools

import torch
from discrete_laws import chain, product_states

from clarkia.oracles import FiniteJoint
from clarkia.processes import Masked

CHAIN = FiniteJoint(chain())
PROCESS = Masked((3,) * 4)
PAIR = FiniteJoint([[0.5, 0.0], [0.0, 0.5]])


def times(t, rows):
    return torch.full((rows,), t, dtype=torch.float64)


def repeated(carry, n):
    """The carry of one row, for n rows."""
    if isinstance(carry, dict):
        return {key: repeated(value, n) for key, value in carry.items()}
    return carry if carry is None else carry.expand(n, *carry.shape[1:])


def transition(solver, joint, process, carry, t, s):
    """The matrix over partial states of one step; ``carry`` is that of one row."""
    states = product_states([count + 1 for count in joint.probabilities.shape])
    n, length = states.shape
    carries = repeated(carry, n)
    kernel, _ = solver.kernel(joint.denoiser(process), process, states, times(t, n), times(s, n), carries)
    table = kernel.table()
    return torch.stack([table[:, i][:, states[:, i]] for i in range(length)]).sum(0).exp()


def clean_law(law, joint):
    """The law of the clean states from that of all partial ones, and how much mass is not clean."""
    counts = torch.tensor(joint.probabilities.shape)
    clean = (product_states((counts + 1).tolist()) < counts).all(1)
    return law[clean], float(law[~clean].sum())


def law_of(solver, joint, process, most=None):
    """Law of the clean states and the expected number of calls of a solver that goes on until nothing is masked."""
    start = process.mask_state().expand(1, len(joint.probabilities.shape))
    law = torch.zeros(len(product_states([count + 1 for count in joint.probabilities.shape])), dtype=torch.float64)
    law[-1] = 1.0
    step = transition(solver, joint, process, solver.init(start, process), 0.5, 0.25)
    calls = 0.0
    for _ in range(most or start.shape[1]):
        calls += clean_law(law, joint)[1]
        law = law @ step
    law, left = clean_law(law, joint)
    assert left < 1e-12
    return law, calls


def law_on_grid(solver, joint, process, grid, carry=None):
    """Law of the clean states on a grid of times, all carries equal."""
    law = torch.zeros(len(product_states([count + 1 for count in joint.probabilities.shape])), dtype=torch.float64)
    law[-1] = 1.0
    for t, s in itertools.pairwise(grid):
        law = law @ transition(solver, joint, process, carry, float(t), float(s))
    return clean_law(law, joint)[0]


def variation(law, joint):
    return float((law - joint.probabilities.flatten()).abs().sum() / 2)


def entropy(law):
    return -float(torch.special.xlogy(law, law).sum())
