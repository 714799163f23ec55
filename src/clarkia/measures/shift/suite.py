"""Run classifiers through scenarios of shift on one manifest of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarkia.measures.shift.corruptions import corrupt
from clarkia.measures.shift.manifest import Manifest
from clarkia.measures.shift.predictors import Adaptable, Classifier, ask
from clarkia.measures.shift.report import Outcome, Report
from clarkia.random import generator


@dataclass(frozen=True, eq=False)
class Scenario:
    """A way to put a question to a classifier.

    Attributes:
        name: What it is called in the report.
        change: From inputs and a generator to changed inputs of the same number; None for the inputs as they are.
        shots: Labelled rows of every domain and class that the classifier may learn from, domain by domain; they are
            taken out of what is asked.
        subset: Rows of every domain and class asked at most; None for all.
        failures_of: Ask only what the classifier of this name gets wrong, changed or not. Such rows were chosen by
            their outcome: that classifier scores 0 on them by construction and others fall back to their mean, so the
            report marks the outcome as conditional and leaves it out of all comparisons of levels.
    """

    name: str
    change: Callable[[Any, torch.Generator], Any] | None = None
    shots: int = 0
    subset: int | None = None
    failures_of: str | None = None

    @classmethod
    def corrupted(cls, kind: str, severity: int) -> Scenario:
        """A corruption of images (see `corrupt`), named ``kind:severity``."""
        return cls(f"{kind}:{severity}", lambda x, noise: corrupt(x, kind, severity, generator=noise))


CLEAN = Scenario("clean")
"""The rows as they are, all of them."""


@dataclass(frozen=True, eq=False)
class Suite:
    """A data set and the rows of it that every classifier is asked about.

    Args:
        manifest: The rows, with domain and class.
        inputs: The data set, indexed by row: a tensor or array, or a function from row numbers ``(k,)`` to a batch.
        clusters: Cluster of each row of the manifest (a patient, a camera), for the intervals; None for no clusters.
        seed: Seed of changes, shots and subsets.
    """

    manifest: Manifest
    inputs: Any
    clusters: Sequence[Any] | None = None
    seed: int = 0

    def run(self, classifiers: Mapping[str, Classifier], scenarios: Sequence[Scenario] = (CLEAN,)) -> Report:
        """Ask every classifier in every scenario; all are asked the same rows, changed in the same way.

        Args:
            classifiers: By name.
            scenarios: In order; their names must differ.

        Raises:
            ValueError: No classifier, a name twice, an unknown one, a scenario with shots for a classifier that cannot
                learn, an answer that is no table of probabilities.
        """
        names = [scenario.name for scenario in scenarios]
        if not classifiers or len(set(names)) < len(names) or not names:
            found = f"{list(classifiers)} and {names}"
            raise ValueError(f"classifiers, scenarios: expected some, of different names, found {found}.")
        outcomes: list[Outcome] = []
        for index, scenario in enumerate(scenarios):
            outcomes += self._run(classifiers, scenario, index)
        return Report(tuple(outcomes), self.manifest.class_names)

    def batch(self, rows: Any) -> Any:
        """The inputs of some rows of the data set."""
        rows = np.asarray(rows, dtype=np.int64)
        if callable(self.inputs):
            return self.inputs(rows)
        return self.inputs[torch.from_numpy(rows)] if isinstance(self.inputs, Tensor) else np.asarray(self.inputs)[rows]

    def _run(self, classifiers: Mapping[str, Classifier], scenario: Scenario, index: int) -> list[Outcome]:
        manifest = self.manifest
        known = None
        if scenario.shots:
            known, manifest = manifest.split_shots(scenario.shots, seed=self.seed)
        if scenario.subset is not None:
            manifest = manifest.subset(scenario.subset, seed=self.seed)
        x = self._changed(scenario, manifest, generator(self.seed, index, 0))
        if scenario.failures_of is not None:
            manifest, x = self._failures(classifiers, scenario.failures_of, manifest, x)
        shots = None if known is None else self._changed(scenario, known, generator(self.seed, index, 1))
        return [
            self._outcome(name, classifier, scenario, manifest, x, known, shots)
            for name, classifier in classifiers.items()
        ]

    def _changed(self, scenario: Scenario, manifest: Manifest, noise: torch.Generator) -> Any:
        x = self.batch(manifest.rows)
        changed = x if scenario.change is None else scenario.change(x, noise)
        if len(changed) != len(x):
            raise ValueError(
                f"change: expected {len(x)} changed inputs in scenario {scenario.name!r}, found {len(changed)}."
            )
        return changed

    def _failures(
        self, classifiers: Mapping[str, Classifier], name: str, manifest: Manifest, x: Any
    ) -> tuple[Manifest, Any]:
        if name not in classifiers:
            raise ValueError(f"failures_of: expected one of {list(classifiers)}, found {name!r}.")
        wrong = ask(classifiers[name], x, len(manifest.class_names)).labels != np.array(manifest.labels)
        if not wrong.any():
            raise ValueError(f"failures_of: expected rows that {name!r} gets wrong, found none.")
        return manifest.take(wrong), _take(x, wrong)

    def _outcome(
        self, name: str, classifier: Classifier, scenario: Scenario, manifest: Manifest, x: Any,
        known: Manifest | None, shots: Any,
    ) -> Outcome:  # fmt: skip
        domains, classes = np.array(manifest.domains), len(manifest.class_names)
        labels, confidence = np.full(len(domains), -1), np.full(len(domains), np.nan)
        if known is None:
            answers = ask(classifier, x, classes)
            labels, confidence = answers.labels, answers.confidence
        else:
            if not isinstance(classifier, Adaptable):
                raise ValueError(
                    f"shots: expected a classifier with a method adapt, found {type(classifier).__name__}."
                )
            for domain in dict.fromkeys(manifest.domains):
                own, examples = domains == domain, np.array(known.domains) == domain
                learned = classifier.adapt(_take(shots, examples), np.array(known.labels)[examples])
                answers = ask(learned, _take(x, own), classes)
                labels[own], confidence[own] = answers.labels, answers.confidence
        clusters = None
        if self.clusters is not None:
            places = dict(zip(self.manifest.rows, self.clusters, strict=True))
            clusters = np.array([places[row] for row in manifest.rows])
        return Outcome(
            name, scenario.name, scenario.failures_of is not None, np.array(manifest.rows), domains,
            np.array(manifest.labels), labels, confidence, clusters,
        )  # fmt: skip


def _take(x: Any, where: np.ndarray) -> Any:
    return x[torch.from_numpy(where)] if isinstance(x, Tensor) else np.asarray(x)[where]
