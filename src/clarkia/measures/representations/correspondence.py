"""Which point of one image is this point of the other: matches by nearest features, and how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from clarkia._math.neighbours import k_nearest
from clarkia.measures.fields.checks import check_count
from clarkia.measures.inputs import pair


def nearest_features(queries: Any, points: Any) -> Int64[Tensor, " n"]:
    """Index of the nearest of some features to each query, in Euclidean distance; ``(n,)``.

    Raises:
        ValueError: Features that are not finite rows of one width.
    """
    queries, points = pair(queries, points, ("queries", "points"))
    return k_nearest(queries, points, 1)[1][:, 0]


def stack_maps(maps: Sequence[Tensor], size: tuple[int, int]) -> Float64[Tensor, "n d h w"]:
    """Feature maps of several layers, brought to one size (bilinear) and stacked along the channels.

    Args:
        maps: Maps ``(n, c_i, h_i, w_i)`` of the same images.
        size: Height and width wanted.

    Raises:
        ValueError: No maps, other shapes, or different numbers of images.
    """
    if not maps or any(part.ndim != 4 for part in maps) or len({len(part) for part in maps}) > 1:
        shapes = [tuple(part.shape) for part in maps]
        raise ValueError(f"maps: expected maps (n, c, h, w) of the same images, found {shapes}.")
    resize = torch.nn.functional.interpolate
    return torch.cat([resize(part.double(), size=size, mode="bilinear", align_corners=False) for part in maps], 1)


def correspond(
    source: Float[Tensor, "c h w"],
    target: Float[Tensor, "c g v"],
    points: Float[Tensor, "k 2"],
    source_size: tuple[float, float],
    target_size: tuple[float, float],
) -> Float64[Tensor, "k 2"]:
    """Where points of one image are in another: at the centre of the token with the nearest features.

    Args:
        source: Features of the first image, on a grid of tokens.
        target: Of the second; as many channels.
        points: Points of the first image, in pixels from its top left corner: x (to the right), then y (down).
        source_size: Width and height of the first image in pixels.
        target_size: Of the second.

    Returns:
        Points of the second image in its pixels, ``(k, 2)``.

    Raises:
        ValueError: Maps or points of other shapes, points outside the first image, features that are not finite.

    Source: A Tale of Two Features: Stable Diffusion Complements DINO for Zero-Shot Semantic Correspondence (2023).
    """
    if source.ndim != 3 or target.ndim != 3 or len(source) != len(target):
        raise ValueError(
            f"target: expected maps (c, h, w) of as many channels, found {tuple(source.shape)}, {tuple(target.shape)}."
        )
    width, height = source_size
    points = torch.as_tensor(points).double()
    bound = torch.tensor([width, height], dtype=torch.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not bool(((points >= 0) & (points <= bound)).all()):
        raise ValueError(f"points: expected (k, 2) with 0 <= x <= {width:g} and 0 <= y <= {height:g}, found others.")
    rows, columns = source.shape[1:]
    x = (points[:, 0] / width * columns).long().clamp(max=columns - 1)
    y = (points[:, 1] / height * rows).long().clamp(max=rows - 1)
    match = nearest_features(source[:, y, x].T, target.flatten(1).T)
    rows, columns = target.shape[1:]
    centres = torch.stack([(match % columns) + 0.5, (match // columns) + 0.5], 1).double()
    return centres / torch.tensor([columns, rows]) * torch.tensor(target_size, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class KeypointScore:
    """Share of keypoints that were found.

    Attributes:
        pooled: Over all visible keypoints of all images.
        per_image: Mean over images (with a visible keypoint) of the share in each; the two differ by points.
        correct: Which were found, booleans ``(n, k)``; False where not visible.
    """

    pooled: float
    per_image: float
    correct: Bool[Tensor, "n k"]


def pck(
    found: Float[Tensor, "n k 2"],
    truth: Float[Tensor, "n k 2"],
    sizes: Float[Tensor, " n"],
    *,
    visible: Bool[Tensor, "n k"] | None = None,
    alpha: float = 0.1,
) -> KeypointScore:
    """Percentage of correct keypoints: those nearer to the truth than a share of the object's size.

    Args:
        found: Points in pixels, ``(n, k, 2)``.
        truth: Where they should be.
        sizes: Larger side of each object's box, or of each image, in pixels; benchmarks differ, so say which.
        visible: Keypoints that can be seen in both images; all where None.
        alpha: The share.

    Raises:
        ValueError: Shapes that do not fit, sizes or a share that are not positive, no visible keypoint.

    Source: A Tale of Two Features: Stable Diffusion Complements DINO for Zero-Shot Semantic Correspondence (2023).
    """
    if found.shape != truth.shape or found.ndim != 3 or found.shape[2] != 2:
        raise ValueError(
            f"found: expected points (n, k, 2) as truth, found {tuple(found.shape)}, {tuple(truth.shape)}."
        )
    sizes = torch.as_tensor(sizes).double()
    if sizes.shape != found.shape[:1] or not bool((sizes > 0).all()):
        raise ValueError(f"sizes: expected {len(found)} positive numbers, found {sizes.tolist()[:10]}.")
    if not alpha > 0:
        raise ValueError(f"alpha: expected a positive number, found {alpha}.")
    seen = torch.ones(found.shape[:2], dtype=torch.bool) if visible is None else visible
    if seen.shape != found.shape[:2] or not bool(seen.any()):
        raise ValueError(f"visible: expected booleans {tuple(found.shape[:2])}, some True, found {tuple(seen.shape)}.")
    error = (found.double() - truth.double()).norm(dim=2)
    correct = (error < alpha * sizes[:, None]) & seen
    some = seen.any(1)
    shares = correct.sum(1)[some] / seen.sum(1)[some].double()
    return KeypointScore(float(correct.sum() / seen.sum()), float(shares.mean()), correct)


@dataclass(frozen=True)
class Agreement:
    """How two representations complement each other, as shares of all cases.

    Attributes:
        both: Both are right.
        only_first: Only the first is.
        only_second: Only the second is.
        neither: None is; one minus this bounds what any choice between the two can reach.
    """

    both: float
    only_first: float
    only_second: float
    neither: float


def agreement(first: Bool[Tensor, "..."], second: Bool[Tensor, "..."]) -> Agreement:
    """Compare two representations case by case.

    Args:
        first: Where the first is right.
        second: Where the second is, of the same shape.

    Raises:
        ValueError: Different shapes or no case.

    Source: A Tale of Two Features: Stable Diffusion Complements DINO for Zero-Shot Semantic Correspondence (2023).
    """
    if first.shape != second.shape or not first.numel():
        raise ValueError(f"second: expected shape {tuple(first.shape)} as first, found {tuple(second.shape)}.")
    tables = (first & second, first & ~second, ~first & second, ~first & ~second)
    return Agreement(*(float(table.double().mean()) for table in tables))


def flow_roughness(matches: Int64[Tensor, "h w"], width: int) -> float:
    """How far the matches of neighbouring tokens lie apart beyond a step: 0 for a shift of the whole image.

    The mean over neighbours, right and down, of the L1 difference of their displacements, in tokens.

    Args:
        matches: Index of each token's match in the other image, row by row.
        width: Tokens in a row of the other image.

    Raises:
        ValueError: Fewer than two tokens, no width.

    Source: A Tale of Two Features: Stable Diffusion Complements DINO for Zero-Shot Semantic Correspondence (2023).
    """
    check_count(width, "width")
    if matches.ndim != 2 or matches.numel() < 2:
        raise ValueError(f"matches: expected a grid of at least two tokens, found {tuple(matches.shape)}.")
    rows, columns = torch.meshgrid(*(torch.arange(length) for length in matches.shape), indexing="ij")
    flow = torch.stack([matches // width - rows, matches % width - columns], 2).double()
    steps = [(flow.diff(dim=axis)).abs().sum(2).flatten() for axis in (0, 1)]
    return float(torch.cat(steps).mean())
