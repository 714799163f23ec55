"""Weight averages of any length after the run, from snapshots of a few."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import DataError
from .checkpoints import load_checkpoint, save_checkpoint
from .ema import PowerAverage, power_of


def save_snapshot(path: str | os.PathLike[str], average: PowerAverage, step: int) -> None:
    """Write a power average to a file, with the number of finished steps it covers.

    Raises:
        DataError: the path cannot be written.
    """
    record = {"sigma_rel": average.sigma_rel, "step": step, "averaged": list(average.averaged)}
    save_checkpoint(path, average.weights, record)


def posthoc(snapshots: Sequence[str | os.PathLike[str]], sigma_rel: float, at: int | None = None) -> dict[str, Tensor]:
    """The average of another length, or at an earlier step, as a combination of snapshots.

    Each snapshot is the run's weights integrated against a known profile; the combination is the one whose profile is
    nearest to that asked for. With two tracks (0.05 and 0.1) and some tens of snapshots, lengths from 0.05 to 0.25 come
    out as if they had been tracked. Files are read one after another.

    Args:
        snapshots: files of `save_snapshot`, of one or more tracks and any steps.
        sigma_rel: the length wanted, as in `PowerAverage`.
        at: finished steps at which it is wanted; the last snapshot's by default.

    Returns:
        The weights by name, on the CPU; what is not averaged is that of the snapshot nearest to `at`.

    Raises:
        ValueError: a sigma_rel out of range, or a step after the last snapshot.
        DataError: no snapshots, one that cannot be read, or snapshots of different networks.
    """
    gamma = power_of(sigma_rel)
    tracks = [_track(path) for path in snapshots]
    if not tracks:
        raise DataError("post-hoc averaging needs at least one snapshot; give the files of a run with ema_sigmas")
    last = max(track.step for track in tracks)
    at = last if at is None else at
    if not 0 < at <= last:
        raise ValueError(f"at: expected a step from 1 to that of the last snapshot, {last}, found {at}.")
    profiles = [(track.step, power_of(track.sigma_rel)) for track in tracks]
    shares = combination(profiles, (at, gamma))
    nearest = min(tracks, key=lambda track: abs(track.step - at))
    result: dict[str, Tensor] = {}
    for track, share in zip(tracks, shares.tolist(), strict=True):
        _add(result, track, share, nearest)
    weights = load_checkpoint(nearest.path)[0]
    return {name: result[name].to(tensor.dtype) if name in result else tensor for name, tensor in weights.items()}


def combination(profiles: Sequence[tuple[int, float]], target: tuple[int, float]) -> NDArray[np.float64]:
    """Factors, summing to one, by which power profiles come nearest to another in the mean square.

    Args:
        profiles: pairs (step n, exponent gamma) of densities ``(gamma + 1) s^gamma / n^(gamma + 1)`` on [0, n].
        target: the pair of the profile wanted.

    Returns:
        float64 (len(profiles),).

    Source: Analyzing and Improving the Training Dynamics of Diffusion Models (2023).
    """
    steps, gammas = (np.array(part, dtype=np.float64) for part in zip(*profiles, strict=True))
    inner = _product(steps[:, None], gammas[:, None], steps, gammas)
    aim = _product(steps, gammas, float(target[0]), float(target[1]))
    # Neighbouring snapshots are nearly alike, so the matrix is close to singular: least squares takes the short way.
    shares = np.linalg.lstsq(inner, aim, rcond=1e-14)[0]
    return shares / shares.sum()


def _product(n_a: NDArray | float, gamma_a: NDArray | float, n_b: NDArray | float, gamma_b: NDArray | float) -> NDArray:
    """The integral of the product of two profiles."""
    ratio = np.divide(n_a, n_b)
    exponent = np.where(ratio < 1, gamma_b, np.negative(gamma_a))
    scale = np.multiply(np.add(gamma_a, 1), np.add(gamma_b, 1)) / np.add(np.add(gamma_a, gamma_b), 1)
    return scale * np.exp(exponent * np.log(ratio)) / np.maximum(n_a, n_b)


@dataclass(frozen=True)
class _Track:
    path: Path
    step: int
    sigma_rel: float
    averaged: frozenset[str]


def _track(path: str | os.PathLike[str]) -> _Track:
    """What the header of a snapshot says; its tensors stay on disk."""
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["clarkia"])
        return _Track(Path(path), int(record["step"]), float(record["sigma_rel"]), frozenset(record["averaged"]))
    except OSError as error:
        raise DataError(f"cannot read the snapshot {path}: {(error.strerror or str(error)).lower()}") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no snapshot of a power average; give files of a run with ema_sigmas") from error


def _add(result: dict[str, Tensor], track: _Track, share: float, like: _Track) -> None:
    """Add a snapshot's averaged weights, times a factor, in double precision: the factors alternate in sign."""
    weights: Mapping[str, Tensor] = load_checkpoint(track.path)[0]
    if track.averaged != like.averaged:
        raise DataError(f"the snapshots {track.path} and {like.path} belong to different networks")
    for name in track.averaged:
        tensor = weights[name].to(torch.float64)
        if name not in result:
            result[name] = torch.zeros_like(tensor)
        if result[name].shape != tensor.shape:
            raise DataError(f"the snapshots {track.path} and {like.path} belong to different networks")
        result[name] += share * tensor
