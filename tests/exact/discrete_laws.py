"""Brute force over every state of a few categories: laws, posteriors and the laws of samplers, in float64."""

import itertools
import math

import torch

from clarkia.processes import Masked


def product_states(sizes):
    """All combinations, ``(prod sizes, m)``."""
    return torch.tensor(list(itertools.product(*(range(size) for size in sizes))))


def chain(length=4):
    """A Markov chain of ternary variables that stays with probability 0.8, as a table."""
    step = torch.full((3, 3), 0.1, dtype=torch.float64) + 0.7 * torch.eye(3, dtype=torch.float64)
    table = torch.full((3,), 1 / 3, dtype=torch.float64)
    for _ in range(length - 1):
        table = table.unsqueeze(-1) * step
    return table


class Enumeration:
    """Everything about a table of clean data under a discrete process, by summing over clean states."""

    def __init__(self, table, process):
        self.process, self.p = process, table.flatten()
        self.counts = tuple(table.shape)
        self.sizes = tuple(count + isinstance(process, Masked) for count in self.counts)
        self.states, self.clean = product_states(self.sizes), product_states(self.counts)
        noise = process.noise_probs().expand(len(self.counts), -1)
        self.noise = [row[:size] for row, size in zip(noise, self.sizes, strict=True)]
        self.strides = torch.tensor([math.prod(self.sizes[i + 1 :]) for i in range(len(self.sizes))])

    def alpha(self, t):
        """Alpha of every position."""
        return self.process.alpha(torch.tensor([t], dtype=torch.float64)).expand(1, len(self.counts))[0]

    def index(self, x):
        return (x * self.strides).sum(-1)

    def emissions(self, kept):
        """``q(x | k)`` of every position, a list of ``(classes, states)``."""
        return [
            a * torch.eye(count, size, dtype=torch.float64) + (1 - a) * pi
            for a, count, size, pi in zip(kept, self.counts, self.sizes, self.noise, strict=True)
        ]

    def noising(self, kept):
        """The corruption's transition matrix over all states."""
        parts = [
            a * torch.eye(size, dtype=torch.float64) + (1 - a) * pi
            for a, size, pi in zip(kept, self.sizes, self.noise, strict=True)
        ]
        return self.product([part.expand(len(self.states), -1, -1) for part in parts], self.states)

    def product(self, parts, rows):
        """``prod_i parts[i][x, x_i, y_i]`` of all pairs of states."""
        chosen = [part[torch.arange(len(rows)), rows[:, i]][:, self.states[:, i]] for i, part in enumerate(parts)]
        return torch.stack(chosen).prod(0)

    def likelihood(self, t):
        """``q(x_t | x_0)``, ``(clean states, states)``."""
        parts = [part.expand(len(self.clean), -1, -1) for part in self.emissions(self.alpha(t))]
        return self.product(parts, self.clean)

    def law(self, t):
        """The noisy law ``p_t``."""
        return self.p @ self.likelihood(t)

    def slope(self, t):
        """``d p_t / dt``, by the product rule."""
        d_alpha = self.process.d_alpha(torch.tensor([t], dtype=torch.float64)).expand(1, len(self.counts))[0]
        parts = self.emissions(self.alpha(t))
        slopes = self.emissions(torch.ones(len(parts), dtype=torch.float64))
        total = torch.zeros(len(self.states), dtype=torch.float64)
        for i, pi in enumerate(self.noise):
            changed = [*parts[:i], d_alpha[i] * (slopes[i] - pi), *parts[i + 1 :]]
            total += self.p @ self.product([part.expand(len(self.clean), -1, -1) for part in changed], self.clean)
        return total

    def posterior(self, t):
        """``p(x_0^i = k | x_t)`` of every state, ``(states, m, K_max)``; the marginals where a state cannot be."""
        joint = self.p * self.likelihood(t).T
        total = joint.sum(1, keepdim=True)
        weights = torch.where(total > 0, joint / torch.where(total > 0, total, 1.0), self.p)
        one_hot = torch.nn.functional.one_hot(self.clean, max(self.counts)).double()
        return torch.einsum("xc,cik->xik", weights, one_hot)

    def prediction(self, t):
        """The exact denoiser's answer at every state."""
        times = torch.full((len(self.states),), t, dtype=torch.float64)
        return self.process.log_probs(self.posterior(t).log(), self.states, times)

    def denoise(self, x, t, condition=None):
        """The exact denoiser, for one time shared by all rows."""
        return self.prediction(float(t.flatten()[0]))[self.index(x)]

    def transition(self, solver, t, s):
        """The solver's transition matrix over all states, from its own kernels."""
        t, s = (torch.full((len(self.states),), time, dtype=torch.float64) for time in (t, s))
        table = solver.kernel(self.denoise, self.process, self.states, t, s, None)[0].table()
        return torch.stack([table[:, i][:, self.states[:, i]] for i in range(len(self.counts))]).sum(0).exp()

    def start(self):
        """The law of pure noise."""
        law = torch.ones(len(self.states), dtype=torch.float64)
        for i, pi in enumerate(self.noise):
            law = law * pi[self.states[:, i]]
        return law

    def sampled(self, solver, times):
        """The exact law of clean states that a solver draws on a grid."""
        law = self.start()
        for t, s in itertools.pairwise(times.tolist()):
            law = law @ self.transition(solver, t, s)
        return law[self.index(self.clean)]

    def variation(self, law):
        """Total variation from the data."""
        return float((law - self.p).abs().sum() / 2)


def exact_denoiser(table, process):
    """The exact denoiser at times that may differ by cell, from the process's own emissions."""
    clean, log_p = product_states(table.shape), table.flatten().log()
    one_hot = torch.nn.functional.one_hot(clean, max(table.shape)).double()

    def denoise(x, t, condition=None):
        emission = process.log_emission(x, t)
        chosen = [emission[:, i][:, clean[:, i]] for i in range(clean.shape[1])]
        log_weights = torch.stack(chosen).sum(0) + log_p
        weights = torch.softmax(log_weights, 1)
        return process.log_probs(torch.einsum("nc,cik->nik", weights, one_hot).log(), x, t)

    return denoise
