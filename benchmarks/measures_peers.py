"""The packages behind `benchmarks/measures.py`: the package itself where it imports, else the formula it computes.

Every peer takes two feature matrices and a type of numbers: ``float64``, in which values agree to 1e-6, or the
``float32`` of the features as they come.
"""

import contextlib
import io
from importlib import import_module
from types import ModuleType

import numpy as np
import torch

from clarkia.measures.inputs import some_rows
from clarkia.measures.two_sample.sliced import random_directions
from clarkia.random import generator

BANDWIDTH, EPS, SUBSETS, SIZE, LINES, NEIGHBOURS = 60.0, 2000.0, 100, 1000, 200, 5


def module(name: str) -> ModuleType | None:
    """A module, or None where it (or what it needs) is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def frechet(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """torch-fidelity: eigenvalues of the product of the covariances, by a solver for general matrices."""
    (mu1, sigma1), (mu2, sigma2) = ((np.mean(z, axis=0, dtype=dtype), np.cov(z, rowvar=False)) for z in (x, y))
    package = module("torch_fidelity.metric_fid")
    if package is not None:
        stats = ({"mu": mu1.astype(float), "sigma": sigma1}, {"mu": mu2.astype(float), "sigma": sigma2})
        return [package.fid_statistics_to_metric(*stats, False)[package.KEY_METRIC_FID]]
    roots = np.sqrt(np.linalg.eigvals(sigma1.dot(sigma2)).astype("complex128")).real
    diff = mu1 - mu2
    return [float(diff.dot(diff) + np.trace(sigma1) + np.trace(sigma2) - 2 * roots.sum())]


def kid(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """torch-fidelity: whole Gram matrices of every subset (the same subsets as clarkia draws)."""
    package = module("torch_fidelity.metric_kid")
    noise, total = generator(1), 0.0
    first, second = torch.arange(len(x)), torch.arange(len(y))
    size = min(SIZE, len(x) // 2)
    for _ in range(SUBSETS):
        a, b = x[some_rows(first, size, noise)].astype(dtype), y[some_rows(second, size, noise)].astype(dtype)
        if package is not None:
            total += package.kernel_mmd(a, b, kid_kernel="poly")
            continue
        xx, yy, xy = ((p @ q.T / x.shape[1] + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
        own = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        total += own - 2 * xy.sum() / size**2
    return [float(total / SUBSETS)]


def mmd(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """scikit-learn's whole kernel matrices."""
    from sklearn.metrics.pairwise import rbf_kernel

    gamma, (n, m) = 0.5 / BANDWIDTH**2, (len(x), len(y))
    x, y = x.astype(dtype), y.astype(dtype)
    own = [(g.sum() - np.trace(g)) / (k * (k - 1)) for g, k in ((rbf_kernel(z, gamma=gamma), len(z)) for z in (x, y))]
    return [float(own[0] + own[1] - 2 * rbf_kernel(x, y, gamma=gamma).sum() / (n * m))]


def energy(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """scikit-learn's whole distance matrices."""
    from sklearn.metrics import pairwise_distances

    x, y = x.astype(dtype), y.astype(dtype)
    return [float(2 * pairwise_distances(x, y).mean() - pairwise_distances(x).mean() - pairwise_distances(y).mean())]


def prdc(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """prdc: three whole distance matrices, radii by partition, strict inequalities."""
    x, y = x.astype(dtype), y.astype(dtype)
    package = module("prdc")
    if package is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            found = package.compute_prdc(x, y, NEIGHBOURS)
        return [float(found[name]) for name in ("precision", "recall", "density", "coverage")]
    from sklearn.metrics import pairwise_distances

    radius_x, radius_y = (np.partition(pairwise_distances(z), NEIGHBOURS, axis=-1)[:, NEIGHBOURS] for z in (x, y))
    gap = pairwise_distances(x, y)
    return [
        float((gap < radius_x[:, None]).any(axis=0).mean()),
        float((gap < radius_y[None]).any(axis=1).mean()),
        float((gap < radius_x[:, None]).sum(axis=0).mean() / NEIGHBOURS),
        float((gap.min(axis=1) < radius_x).mean()),
    ]


def sliced(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """POT: all projections at once, sorted, paired."""
    lines = random_directions(LINES, x.shape[1], generator=generator(2)).numpy().T.astype(dtype)
    x, y = x.astype(dtype), y.astype(dtype)
    package = module("ot")
    if package is not None:
        return [float(package.sliced_wasserstein_distance(x, y, projections=lines, p=2))]
    gap = np.sort(x @ lines, axis=0) - np.sort(y @ lines, axis=0)
    return [float((np.abs(gap) ** 2).mean(0).mean() ** 0.5)]


def sinkhorn(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """POT's log-domain iterations on the whole cost matrix; the plan's cost plus its entropy."""
    x, y = x.astype(dtype), y.astype(dtype)
    cost = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    n, m = cost.shape
    package = module("ot")
    if package is not None:
        a, b = (np.full(k, 1 / k, dtype=dtype) for k in (n, m))
        plan = package.sinkhorn(a, b, cost, EPS, method="sinkhorn_log", stopThr=1e-9)
    else:
        from scipy.special import logsumexp

        scaled = -cost / EPS
        u, v = np.zeros(n, dtype), np.zeros(m, dtype)
        for _ in range(1000):
            v = -np.log(m) - logsumexp(scaled + u[:, None], axis=0)
            u = -np.log(n) - logsumexp(scaled + v, axis=1)
            if np.abs(np.exp(scaled + u[:, None] + v).sum(0) - 1 / m).sum() < 1e-9:
                break
        plan = np.exp(scaled + u[:, None] + v)
    return [float((plan * cost).sum() + EPS * (plan * np.log(plan * n * m)).sum())]


def exact(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """POT's linear programme on the whole cost matrix, or SciPy's assignment."""
    from scipy.spatial.distance import cdist

    cost = cdist(x.astype(dtype), y.astype(dtype), "sqeuclidean")
    package = module("ot")
    if package is not None:
        return [float(package.emd2([], [], cost, numItermax=10_000_000)) ** 0.5]
    from scipy.optimize import linear_sum_assignment

    return [float(cost[linear_sum_assignment(cost)].mean() ** 0.5)]


def vendi(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """vendi-score's dual: eigenvalues of the second moments of unit rows."""
    package = module("vendi_score.vendi")
    if package is not None:
        return [float(package.score_dual(x.astype(dtype)))]
    from scipy import linalg
    from sklearn.preprocessing import normalize

    rows = normalize(x.astype(dtype), axis=1)
    values = linalg.eigvalsh(rows.T @ rows / len(rows))
    values = values[values > 0]
    return [float(np.exp(-(values * np.log(values)).sum()))]


def neighbours(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """scikit-learn's brute-force neighbours."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(x.astype(dtype))
    return found.kneighbors(y.astype(dtype))[0].mean(0).tolist()


def shrinkage(x: np.ndarray, y: np.ndarray, dtype: type) -> list[float]:
    """scikit-learn's Ledoit-Wolf covariance."""
    from sklearn.covariance import ledoit_wolf

    return [float(np.trace(ledoit_wolf(x.astype(dtype))[0])), float(np.linalg.norm(ledoit_wolf(y.astype(dtype))[0]))]
