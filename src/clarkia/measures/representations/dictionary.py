"""A dictionary of non-negative features of a layer: activations as sums of few recurring patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.fields.checks import check_count
from clarkia.measures.inputs import features


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Activations as non-negative combinations of atoms, ``A = shift + Z D``.

    Attributes:
        atoms: D, of unit norm, float64 ``(k, d)``.
        shift: Least activation of each channel where some were negative, else 0, ``(d,)``.
        codes: Z of the activations it was learned from, ``(n, k)``.
        explained: Share of their sum of squares about the shift that the dictionary reproduces.
    """

    atoms: Float64[Tensor, "k d"]
    shift: Float64[Tensor, " d"]
    codes: Float64[Tensor, "n k"]
    explained: float

    def encode(self, activations: Any) -> Float64[Tensor, "m k"]:
        """Codes of new activations ``(m, d)`` by non-negative least squares.

        Raises:
            ValueError: Activations that are not finite rows of the dictionary's width.
        """
        a = features(activations, "activations").detach()
        if a.shape[1] != self.atoms.shape[1]:
            raise ValueError(f"activations: expected {self.atoms.shape[1]} columns, found {a.shape[1]}.")
        return non_negative_codes(a - self.shift, self.atoms)


def learn_dictionary(activations: Any, num_features: int, *, seed: int = 0) -> Dictionary:
    """Factor a layer's activations into non-negative features and atoms.

    Args:
        activations: The layer's output after its ReLU, ``(n, d)``; a channel with negative values is shifted.
        num_features: Number of atoms k.
        seed: Fixes the start.

    Returns:
        The dictionary, atoms scaled to unit norm so that codes of different features can be compared.

    Raises:
        ValueError: Activations that are not finite rows, all zero, or fewer channels or rows than atoms.

    Source: Understanding Visual Feature Reliance through the Lens of Complexity (2024).
    """
    from sklearn.decomposition import NMF

    a = features(activations, "activations").detach().cpu()
    check_count(num_features, "num_features", most=min(a.shape))
    shift = a.amin(0).clamp(max=0.0)
    positive = (a - shift).numpy()
    if not positive.any():
        raise ValueError("activations: expected some that are not zero, found none.")
    model = NMF(num_features, init="nndsvda", random_state=seed, max_iter=5000, tol=1e-4)  # pyright: ignore[reportArgumentType]
    model.fit(positive)
    atoms = torch.from_numpy(np.asarray(model.components_, np.float64))
    norms = atoms.norm(dim=1, keepdim=True)
    atoms = atoms / torch.where(norms > 0, norms, 1.0)
    codes = non_negative_codes(a - shift, atoms)
    left = (a - shift - codes @ atoms).square().sum()
    return Dictionary(atoms, shift, codes, 1 - float(left / (a - shift).square().sum()))


def non_negative_codes(
    a: Float64[Tensor, "n d"], atoms: Float64[Tensor, "k d"], *, tolerance: float = 1e-12, max_sweeps: int = 2000
) -> Float64[Tensor, "n k"]:
    """Non-negative least squares of all rows at once, by sweeps over the atoms.

    Args:
        a: Rows to explain.
        atoms: What with.
        tolerance: Stop when no code moves by more than this share of the largest.
        max_sweeps: Stop at the latest after so many sweeps.
    """
    inner, gram = a @ atoms.T, atoms @ atoms.T
    codes = torch.zeros_like(inner)
    diagonal = gram.diagonal().clamp(min=torch.finfo(a.dtype).tiny)  # bounds an atom of zeros, whose code stays 0
    for _ in range(max_sweeps):
        before = codes.clone()
        for j in range(len(atoms)):
            codes[:, j] = (codes[:, j] + (inner[:, j] - codes @ gram[:, j]) / diagonal[j]).clamp(min=0.0)
        if float((codes - before).abs().max()) <= tolerance * float(codes.abs().max()):
            break
    return codes
