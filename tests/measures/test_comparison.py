"""Two sets compared as a whole: equal laws, other laws, copies, and sets that cannot be compared."""

import numpy as np
import pytest
import torch

from clarkia.measures import compare
from clarkia.measures.collections import character_ngrams, pixels, standardised
from clarkia.random import generator, randn

REAL, HELD = (randn((300, 4), generator(seed), dtype=torch.float64) for seed in (0, 1))
FEW = {"draws": 4, "seeds": 3, "permutations": 100}


def test_equal_laws_stand_at_their_floors():
    """Fixed seeds; the classifier's and the kernel test's levels are 5 % each."""
    found = compare(REAL, randn((300, 4), generator(2), dtype=torch.float64), holdout=HELD, **FEW)
    assert found.test.interval.low < 0.5 < found.test.interval.high
    assert found.assessments["MMD^2"].p_value > 0.05
    for name in ("FD", "energy distance", "sliced Wasserstein distance"):
        one = found.assessments[name]
        assert 0.4 < one.floor.ratio < 2.5, name
        assert one.floor.source == "holdout"
    assert abs(found.assessments["precision"].value - found.assessments["precision"].floor.mean) < 0.06
    assert found.memorisation.exact.value == 0
    assert found.memorisation.closer.interval.low < 0.5 < found.memorisation.closer.interval.high
    assert found.rows == {"real": 300, "generated": 300, "holdout": 300}


def test_another_law_is_told_apart():
    found = compare(REAL, 0.5 + randn((300, 4), generator(2), dtype=torch.float64), **FEW)
    assert found.test.auc > 0.65
    assert found.assessments["MMD^2"].p_value < 0.02
    # A shift by v is |v|^2 away; both sets add what 300 rows of one law differ by, .06.
    assert found.assessments["FD"].value == pytest.approx(1.0, abs=0.3)
    assert found.memorisation is None


def test_copies_are_found():
    copied = REAL.clone()
    copied[150:] = randn((150, 4), generator(3), dtype=torch.float64)
    found = compare(REAL, copied, holdout=HELD, **FEW).memorisation
    assert found.exact.value == 0.5
    assert found.closer.value == pytest.approx(0.75, abs=0.06)
    assert found.copy_test.p_value < 1e-6


def test_a_black_picture_and_a_text_without_letters_are_compared_like_any():
    black = torch.cat([REAL, torch.zeros(1, 4, dtype=torch.float64)])
    assert compare(black, black, **FEW).assessments["Vendi ratio"].value == pytest.approx(1)


def test_two_calls_agree_and_rows_are_limited():
    one, two = (compare(REAL, HELD, max_rows=100, **FEW) for _ in range(2))
    assert one.assessments["FD"] == two.assessments["FD"]
    assert (len(one.real), one.rows["real"]) == (100, 300)


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (REAL[:20], HELD, "real: expected at least 30 rows, found 20"),
        (REAL, HELD[:, :3], "generated: expected 4 columns as real has, found 3"),
        (REAL, HELD * float("nan"), "generated: expected finite features, found nan in row 0, column 0"),
        (REAL, HELD[:1], "generated: expected at least 30 rows, found 1"),
    ],
)
def test_sets_that_do_not_compare_are_refused(real, generated, message):
    with pytest.raises(ValueError, match=message):
        compare(real, generated, **FEW)


def test_identical_and_constant_sets_have_values():
    found = compare(REAL, REAL, **FEW)
    assert found.assessments["energy distance"].value == 0
    assert found.assessments["coverage"].value == 1
    flat = torch.cat([REAL, torch.ones(300, 1, dtype=torch.float64)], 1)
    still = compare(flat, flat, **FEW)
    assert still.assessments["energy distance"].value == 0


def test_features_of_collections():
    rows = np.column_stack([np.arange(5.0), np.full(5, 7.0)])
    scaled = standardised(rows)
    np.testing.assert_allclose(scaled(rows).std(0, correction=0), [1, 0], atol=1e-12)
    assert scaled.fingerprint != standardised(2 * rows).fingerprint
    assert pixels(2)(np.ones((3, 2, 2, 3), np.float32)).shape == (3, 12)
    texts = character_ngrams(64)(["a cat", "a cat", "dogs"])
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(texts[0], texts[1])
    with pytest.raises(ValueError, match="columns: expected at least 1"):
        character_ngrams(0)
