"""Can it count? How often a model draws the number of things that the caption asks for, number by number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clarkia.bench.generators import Draw, seen
from clarkia.bench.refinements import refine
from clarkia.bench.tables import COLOURS as LINES
from clarkia.bench.tables import markdown, panels, percent, rate
from clarkia.datasets.shapes import COLOURS, SHAPES, WORDS, Judge, Phrase
from clarkia.datasets.shapes.scenes import MAX_COUNT
from clarkia.measures.intervals import Interval
from clarkia.measures.shift import wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BANDS = ((1, 5), (6, 10), (11, 15))
"""Numbers from and to: easy, middling and hard."""

PICTURES_PER_CALL = 64

PLAIN = "plain"


@dataclass(frozen=True, eq=False)
class Counted:
    """What was asked of a generator in one setting, and what it drew.

    Attributes:
        name: of the setting.
        asked: how many things, int64 ``(n,)``.
        seen: how many the judge saw, int64 ``(n,)``.
        cost: pictures drawn for each that counts.
        captions: what was asked for, the number said plainly.
    """

    name: str
    asked: NDArray[np.int64]
    seen: NDArray[np.int64]
    cost: float = 1.0
    captions: tuple[str, ...] = ()

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the number is right, ``(n,)``."""
        return self.asked == self.seen

    @property
    def accuracy(self) -> float:
        """Share of the pictures with the right number."""
        return float(self.right.mean())

    @property
    def signed_error(self) -> float:
        """Mean of the number seen less the number asked for; below 0 where things are left out or merge."""
        return float((self.seen - self.asked).mean())

    @property
    def absolute_error(self) -> float:
        """Mean distance of the number seen from the number asked for."""
        return float(np.abs(self.seen - self.asked).mean())

    def hits(self, low: int, high: int | None = None) -> tuple[int, int]:
        """Right pictures, and all, among those asked for a number, or for one from low to high."""
        among = (self.asked >= low) & (self.asked <= (low if high is None else high))
        return int(self.right[among].sum()), int(among.sum())

    def interval(self, low: int, high: int | None = None) -> Interval:
        """Wilson interval of the accuracy among them."""
        return wilson_interval(*self.hits(low, high))

    def confusion(self) -> NDArray[np.int64]:
        """Pictures by number asked for (rows, from 1) and number seen (columns, from 0)."""
        table = np.zeros((self.asked.max(initial=1), max(self.seen.max(initial=0), self.asked.max(initial=1)) + 1), int)
        np.add.at(table, (self.asked - 1, self.seen), 1)
        return table

    def among(self, captions: Collection[str]) -> Counted:
        """The pictures of some captions."""
        kept = np.array([caption in captions for caption in self.captions], bool)
        chosen = tuple(caption for caption, keep in zip(self.captions, kept, strict=True) if keep)
        return Counted(self.name, self.asked[kept], self.seen[kept], self.cost, chosen)


@dataclass(frozen=True, eq=False)
class CountingReport:
    """All settings of a counting benchmark, the plain one first.

    Attributes:
        settings: what each drew.
        skipped: refinements that could not be asked, for want of words.
    """

    settings: tuple[Counted, ...]
    skipped: tuple[str, ...] = ()

    @property
    def plain(self) -> Counted:
        """The setting that all others are compared with."""
        return self.settings[0]

    @property
    def chance(self) -> float:
        """Accuracy of always drawing the number that is asked for most often."""
        return float(np.unique(self.plain.asked, return_counts=True)[1].max() / len(self.plain.asked))

    def __getitem__(self, name: str) -> Counted:
        """The setting of a name."""
        for setting in self.settings:
            if setting.name == name:
                return setting
        raise ValueError(f"name: expected one of {[one.name for one in self.settings]}, found {name!r}.")

    def to_markdown(self) -> str:
        """Three tables: the settings, accuracy by number, and what was seen for what was asked of the plain one."""
        numbers = np.unique(self.plain.asked).tolist()
        bands = [band for band in BANDS if any(band[0] <= n <= band[1] for n in numbers)]
        head = ["setting", "accuracy", "plain on the same", "signed error", "absolute error"]
        head += [f"{low} to {min(high, numbers[-1])}" for low, high in bands] + ["pictures", "cost"]
        rows = []
        for one in self.settings:
            same = self.plain.among(set(one.captions)) if one.captions else self.plain
            cells = [one.name, rate(int(one.right.sum()), len(one.asked)), percent(same.accuracy)]
            cells += [f"{one.signed_error:+.2f}", f"{one.absolute_error:.2f}"]
            cells += [percent(hits / n) if n else "–" for hits, n in (one.hits(*band) for band in bands)]
            rows.append([*cells, len(one.asked), f"{one.cost:g}"])
        lines = markdown(head, rows)
        lines += ["", f"Chance, always drawing the same number: {percent(self.chance)}. Intervals are Wilson's, 95 %."]
        lines += [f"Not asked, since the model lacks the words: {', '.join(self.skipped)}."] if self.skipped else []
        by_number = [[n, *(rate(*one.hits(n)) for one in self.settings)] for n in numbers]
        lines += ["", *markdown(["asked", *(one.name for one in self.settings)], by_number)]
        confusion = self.plain.confusion()
        seen_head = ["asked, seen", *map(str, range(confusion.shape[1]))]
        lines += ["", *markdown(seen_head, [[n, *confusion[n - 1]] for n in numbers])]
        return "\n".join(lines) + "\n"

    def plot(self) -> Figure:
        """Accuracy by number with its intervals, and what the plain setting drew for what was asked."""
        figure, (left, right) = panels(2)
        numbers = np.unique(self.plain.asked)
        for one, colour in zip(self.settings, LINES * (1 + len(self.settings) // len(LINES)), strict=False):
            own = [n for n in numbers if one.hits(n)[1]]
            rates = [one.hits(n)[0] / one.hits(n)[1] for n in own]
            left.plot(own, rates, "o-", color=colour, markersize=3, linewidth=1, label=one.name)
            if one is self.plain:
                ends = np.array([[one.interval(n).low, one.interval(n).high] for n in own]).T
                left.fill_between(own, *ends, color=colour, alpha=0.15, linewidth=0)
        left.axhline(self.chance, color="#adb5bd", linestyle=":", linewidth=1)
        left.set(xlabel="asked for", ylabel="share with the right number", ylim=(-0.02, 1.02))
        left.legend(fontsize=6, frameon=False)
        confusion = self.plain.confusion()
        right.imshow(confusion / np.maximum(confusion.sum(1, keepdims=True), 1), cmap="GnBu", vmin=0, vmax=1)
        right.set(xlabel="seen", ylabel="asked for", yticks=range(len(confusion)), xticks=range(confusion.shape[1]))
        right.set_yticklabels([str(n + 1) for n in range(len(confusion))])
        right.tick_params(labelsize=7)
        return figure


def counting_captions(
    n_max: int,
    *,
    shapes: Sequence[str] = SHAPES,
    colours: Sequence[str] = COLOURS,
    per_cell: int = 20,
) -> list[str]:
    """Captions of every number, colour and shape, `per_cell` of each: "a red circle", ..., "eight white crosses"."""
    if not 1 <= n_max <= 15 or per_cell < 1:
        raise ValueError(f"n_max, per_cell: expected 1 to 15 and at least 1, found {n_max} and {per_cell}.")
    things = [(n, shape, colour) for n in range(1, n_max + 1) for shape in shapes for colour in colours]
    return [str(Phrase(n, shape, colour)) for n, shape, colour in things for _ in range(per_cell)]


def count(
    draw: Draw,
    judge: Judge,
    captions: Sequence[str],
    *,
    said: Sequence[str] | None = None,
    name: str = PLAIN,
    cost: float = 1.0,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Counted:
    """Draw pictures of captions and count what they show.

    Args:
        draw: ``draw(captions, seed) -> pictures``.
        judge: who counts; things of another shape or colour than asked for do not count.
        captions: one phrase each.
        said: what the generator is told instead, the same number in other words.
        name: of the setting.
        cost: pictures drawn for each that counts.
        seed: fixes the draws.
        progress: called with the number of pictures done since it was called last.
    """
    asked, found = [], []
    for call, start in enumerate(range(0, len(captions), PICTURES_PER_CALL)):
        part = captions[start : start + PICTURES_PER_CALL]
        told = part if said is None else said[start : start + PICTURES_PER_CALL]
        numbers, there = seen(judge(draw(told, seed + call)), part)
        asked.append(numbers.numpy())
        found.append(there.numpy())
        if progress is not None:
            progress(len(part))
    return Counted(name, np.concatenate(asked), np.concatenate(found), cost, tuple(captions))


def counting(
    draw: Draw,
    judge: Judge,
    *,
    n_max: int | None = None,
    shapes: Sequence[str] = SHAPES,
    colours: Sequence[str] = COLOURS,
    per_cell: int = 20,
    refinements: Sequence[str] = (),
    vocabulary: Collection[str] = WORDS,
    remedies: Mapping[str, tuple[Draw, float]] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> CountingReport:
    """Ask a generator for every number of things of every colour and shape, and count what it draws.

    Args:
        draw: ``draw(captions, seed) -> pictures``.
        judge: who counts.
        n_max: largest number; by default the most that the judge's pictures hold.
        shapes: what is to be counted.
        colours: and its colours.
        per_cell: pictures of each number, shape and colour.
        refinements: further settings, each with the number said in another way; see `refine`.
        vocabulary: words that the generator knows; refinements use no others.
        remedies: further settings: by name a generator, and pictures that it draws for each that counts.
        seed: fixes the draws; all settings have the same.
        progress: called with the number of pictures done since it was called last.

    Source: Text-to-Image Diffusion Models Cannot Count, and Prompt Refinement Cannot Help (2025).
    """
    captions = counting_captions(n_max or MAX_COUNT[judge.side], shapes=shapes, colours=colours, per_cell=per_cell)
    found = [count(draw, judge, captions, seed=seed, progress=progress)]
    skipped = []
    for kind in refinements:
        pairs = [(caption, text) for caption in captions if (text := refine(caption, kind, vocabulary)) is not None]
        if not pairs:
            skipped.append(kind)
            continue
        plain, said = zip(*pairs, strict=True)
        found.append(count(draw, judge, plain, said=said, name=kind, seed=seed, progress=progress))
    for name, (other, cost) in (remedies or {}).items():
        found.append(count(other, judge, captions, name=name, cost=cost, seed=seed, progress=progress))
    return CountingReport(tuple(found), tuple(skipped))
