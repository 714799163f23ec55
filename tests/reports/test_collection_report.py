"""The report on collections: stable figures, words that fit them, a page that needs nothing else."""

import json

import numpy as np
import pytest

from clarkia.adapters.collections import Collection
from clarkia.errors import DataError
from clarkia.reports import collection_report


def array(rows, shift=0.0, seed=0):
    return Collection("array", np.random.default_rng(seed).normal(shift, 1, (rows, 3)))


@pytest.fixture(scope="module")
def report():
    return collection_report(array(200), array(200, 1.5, 1), holdout=array(200, seed=2))


def test_the_figures_are_stable(report):
    again = collection_report(array(200), array(200, 1.5, 1), holdout=array(200, seed=2))
    assert report.to_json() == again.to_json()
    plain = json.loads(report.to_json())
    assert {metric["group"] for metric in plain["metrics"]} == {"distance", "support", "classifier", "memorisation"}
    assert plain["rows"] == {"real": 200, "generated": 200, "holdout": 200}
    assert plain["features"] == "standardised"


def test_the_words_say_what_the_figures_do(report):
    headline = report.findings[0]
    assert (headline.tone, headline.title) == ("bad", "Easy to tell apart")
    assert f"{report['Two-sample AUC, boosting'].value:.3f}" in headline.text
    assert report["FD"].value > 10 * report["FD"].floor
    same = collection_report(array(200), array(200, seed=3))
    assert same.findings[0].title == "Cannot be told apart"
    assert "cannot be said" in same.findings[-1].text
    with pytest.raises(KeyError, match="No metric 'FID'"):
        same["FID"]


def test_the_page_is_whole_and_alone(report, tmp_path):
    page = report.to_html(tmp_path / "r.html").read_text()
    assert page.count("<svg") == 1 + len(report.shadows)
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    for metric in report.metrics:
        assert f"<b>{metric.name.replace('^', '^')}</b>" in page
    text = report.to_text(100)
    assert text.startswith("Array report, features standardised: 200 real, 200 generated, 200 holdout rows, seed 0")


def test_texts_and_pictures():
    rng = np.random.default_rng(0)
    words = ["sun", "moon", "sea", "wind", "rain", "leaf"]
    one, two = ([" ".join(rng.choice(words, 5)) for _ in range(60)] for _ in range(2))
    texts = collection_report(Collection("texts", one), Collection("texts", two))
    assert texts.features.startswith("character-ngrams")
    light, dark = (Collection("images", level * rng.random((40, 4, 4, 3))) for level in (1.0, 0.3))
    images = collection_report(light, dark)
    assert images.features == "pixels-4"
    assert images.findings[0].tone == "bad"


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="the real collection holds array, the generated one texts"):
        collection_report(array(50), Collection("texts", ["a"] * 50))
    with pytest.raises(DataError, match="generated: expected at least 30 rows, found 5"):
        collection_report(array(50), array(5))
