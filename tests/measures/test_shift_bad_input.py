"""What the shift harness says to arguments that it cannot take, and its whole way on images of digits."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from clarkia.measures import shift
from clarkia.processes import EDM

X = torch.rand(20, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = np.arange(20) % 2
MANIFEST = shift.Manifest.draw(np.repeat("one", 20), LABELS)
EVEN = shift.TorchClassifier(lambda x: torch.zeros(len(x), 2))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: shift.Manifest((), (), (), ("a",)), "rows, domains, labels: expected three of one length above 0"),
        (lambda: shift.Manifest((1, 1), ("d", "d"), (0, 0), ("a",)), "rows: expected every row once, found one twice."),
        (
            lambda: shift.Manifest((1,), ("d",), (1,), ("a",)),
            "labels: expected 0 to 0, one for each name, found 1 to 1.",
        ),
        (lambda: shift.Manifest.draw(["d"], [0.5]), "labels: expected whole numbers, one a row as domains has"),
        (lambda: shift.Manifest.draw(["d"], [0], num_samples=0), "num_samples: expected at least 1, found 0."),
        (lambda: shift.Suite(MANIFEST, X).run({}), "classifiers, scenarios: expected some, of different names"),
        (
            lambda: shift.Suite(MANIFEST, X).run({"a": EVEN}, [shift.CLEAN, shift.CLEAN]),
            "classifiers, scenarios: expected some, of different names",
        ),
        (
            lambda: shift.Suite(MANIFEST, X).run({"a": EVEN}, [shift.Scenario("x", failures_of="b")]),
            "failures_of: expected one of ['a'], found 'b'.",
        ),
        (
            lambda: shift.Suite(MANIFEST, X).run({"a": EVEN}, [shift.Scenario("x", lambda x, g: x[1:])]),
            "change: expected 20 changed inputs in scenario 'x', found 19.",
        ),
        (lambda: shift.corrupt(X, "snow", 1), "kind: expected one of ['noise', 'blur'"),
        (lambda: shift.corrupt(X, "blur", 6), "severity: expected 1 to 5, found 6."),
        (lambda: shift.corrupt(X + 1, "blur", 1), "x: expected pixels in [0, 1], found 1."),
        (lambda: shift.corrupt(X.flatten(1), "blur", 1), "x: expected float images (n, h, w) or (n, c, h, w)"),
        (lambda: shift.wilson_interval(3, 2), "hits: expected 0 to 2, found 3."),
        (lambda: shift.cluster_bootstrap([]), "values: expected numbers of shape (n,), found (0,)."),
        (lambda: shift.cluster_bootstrap([1, 2], [1]), "clusters: expected one a row, shape (2,), found (1,)."),
        (lambda: shift.mcnemar([1, 0], [1]), "second: expected the shape (n,) of first, found (1,) for (2,)."),
        (lambda: shift.DenoisingClassifier(EVEN, EDM, 2, (0.5,)), "noise_levels: expected at least 2 in one row"),
        (
            lambda: shift.DenoisingClassifier(EVEN, EDM, 1, (0.5, 1.0)),
            "num_classes: expected a whole number of at least 2",
        ),
        (lambda: shift.Prototypes(lambda x: x, EVEN, 2).adapt([[1.0]], [2]), "labels: expected 1 of 0 to 1"),
        (
            lambda: shift.SimilarityClassifier(lambda x: x, [[1.0]], 0.0).predict_proba([[1.0]]),
            "temperature: expected a positive number, found 0.0.",
        ),
        (lambda: shift.shift_sizes(X.flatten(1), ["a"] * 20, "b"), "domains: expected 20 names, 'b' among them"),
        (lambda: shift.rank_correlation([1, 2], [1, 2]), "drops: expected at least 3, one for each of sizes"),
        (lambda: shift.Rerender(EVEN, EDM, 0.0)(X), "strength: expected a time in (0, 1], found 0.0."),
    ],
)
def test_bad_arguments_are_named(call, sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call()
    assert sentence in str(error.value)


def test_the_whole_way_on_digits():
    """Logistic regression: accuracy falls with severity, and a few examples help on negatives."""
    data, target = load_digits(return_X_y=True)
    images = torch.from_numpy(data / 16).reshape(-1, 8, 8)
    model = LogisticRegression(max_iter=300).fit(data[:900] / 16, target[:900])

    class Flat:
        def predict_proba(self, x):
            return model.predict_proba(x.flatten(1).numpy())

    learner = shift.Prototypes(lambda x: x.flatten(1), Flat(), 10)
    manifest = shift.Manifest.draw(np.repeat("digits", 897), target[900:], num_samples=40)
    negative = lambda x, noise: 1 - x  # noqa: E731
    scenarios = [
        shift.CLEAN,
        *(shift.Scenario.corrupted("noise", s) for s in range(1, 6)),
        *(shift.Scenario.corrupted("rotation", s) for s in (1, 2, 3)),
        shift.Scenario("negative", negative),
        shift.Scenario("negative, two shots", negative, shots=2),
    ]
    report = shift.Suite(manifest, images[900:]).run({"logistic": learner}, scenarios)
    drop = {s.name: report.drop("logistic", s.name) for s in scenarios}
    for kind, steps in (("noise", 6), ("rotation", 4)):
        falls = [drop[f"{kind}:{s}"] for s in range(1, steps)]
        assert all(b > a - 0.02 for a, b in pairwise(falls))  # 0.02: two standard errors of a tie
    assert drop["negative"] - drop["negative, two shots"] >= 0.5 * drop["negative"]
    found = report["logistic", "clean"]
    assert found.accuracy.value > 0.85
    assert found.confidence_correlation > 0.2
    assert not math.isnan(found.calibration_error)
