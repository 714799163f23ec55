import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from clarkia.errors import DataError
from clarkia.reports import plots, table_report
from clarkia.reports.profiles import Bars, Histogram, PairProfile, short_number

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = '<script>alert("1")</script>'
VOID = {"meta", "br", "i"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def hostile(n, seed):
    rng = np.random.default_rng([n, seed])
    values = np.array([HOSTILE, 'a & b "c"', "</title></style>", "{{ 7 * 7 }}", "naïve 日本語"])
    return pa.table(
        {
            HOSTILE: pa.array(rng.normal(size=n)),
            "</svg>'\"": pa.array(values[rng.integers(0, 5, n)]),
            "{% raw %}": pa.array(rng.integers(0, 2, n) > 0),
            "x" * 300: pa.array(rng.integers(0, 3, n)),
        }
    )


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    report = table_report(
        hostile(60, 1), hostile(60, 2), holdout=hostile(60, 3), target="{% raw %}", sensitive=[HOSTILE]
    )
    return report.to_html(tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def page(fresh, tmp_path_factory):
    return fresh.to_html(tmp_path_factory.mktemp("page") / "report.html")


def test_the_page_is_well_formed_and_asks_for_nothing(page):
    text = page.read_text(encoding="utf-8")
    found = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & set(found.tags)
    assert not {"src", "href", "srcset", "action", "data", "style-src"} & {name for name, _ in found.attributes}
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert not re.search(r"https?:|url\(|@import|//", text.replace("<!doctype", ""))
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in found.attributes


def test_the_page_has_every_figure_and_every_column(page, fresh):
    text = " ".join(Page(page.read_text(encoding="utf-8")).text)
    for metric in fresh.metrics:
        assert metric.name in text
    for column in fresh.columns:
        assert column.name in text
    for finding in fresh.findings:
        assert finding.text in text
    assert "400" in text
    for heading in ("Every figure", "Column by column", "Pair by pair", "Privacy in plain words", "How to read this"):
        assert heading in text


def test_the_page_has_a_plot_for_every_column_and_a_map_of_pairs(page, fresh):
    tags = Page(page.read_text(encoding="utf-8")).tags
    assert tags.count("svg") == 1 + len(fresh.columns) + 1  # the flower, the columns, the map
    assert page.read_text().count('class="cell"') == len(fresh.pairs.names) * (len(fresh.pairs.names) - 1) // 2


def test_values_and_names_from_the_data_are_text(hostile_page):
    text = hostile_page.read_text(encoding="utf-8")
    found = Page(text)
    assert "script" not in found.tags
    assert "&lt;script&gt;" in text
    assert any(HOSTILE in part for part in found.text)
    assert any("{{ 7 * 7 }}" in part for part in found.text)
    assert not any(part.strip() == "49" for part in found.text)
    assert any("naïve 日本語" in part for part in found.text)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize("which", ["page", "hostile_page"])
def test_a_browser_shows_the_page(which, request, tmp_path):
    file: Path = request.getfixturevalue(which)
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={tmp_path}"]
    shown = subprocess.run(
        [*command, "--enable-logging=stderr", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert shown.returncode == 0
    dom = Page(shown.stdout)
    assert "script" not in dom.tags
    assert "Privacy in plain words" in dom.text
    assert dom.tags.count("svg") == Page(file.read_text(encoding="utf-8")).tags.count("svg")
    assert "Refused to" not in shown.stderr  # nothing that the page's own policy forbids
    assert not re.search(r"CONSOLE.*(error|violat)", shown.stderr, re.IGNORECASE)


def test_the_page_is_written_whole_or_not_at_all(fresh, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    assert fresh.to_html(str(path)) == path
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(DataError, match=r"the folder .* does not exist"):
        fresh.to_html(tmp_path / "nowhere" / "report.html")


def test_wide_tables_show_the_farthest_columns_and_say_so():
    def wide(seed):
        rng = np.random.default_rng(seed)
        shift = 3 * (np.arange(70) == 69) * (seed == 2)
        return pa.table({f"column {i}": rng.normal(size=60) + shift[i] for i in range(70)})

    from clarkia.reports.html import render_html

    text = " ".join(Page(render_html(table_report(wide(1), wide(2)))).text)
    assert "The 60 columns that are farthest off; 10 closer ones are left out here." in " ".join(text.split())
    assert "The 40 columns of the farthest pairs are shown." in text
    assert "column 69" in text


def test_a_histogram_keeps_its_shares_and_its_edges():
    plot = Histogram((0.0, 1.0, 2.0, 3.0, 4.0), (0.5, 0.5, 0, 0), (0.25, 0.25, 0.25, 0.25), ("0", "1", "2", "3", "≥ 4"))
    drawn = str(plots.histogram(plot, "x"))
    assert ">50%<" in drawn
    assert ">0<" in drawn
    assert "≥ 4" in drawn
    heights = re.search(r'real-area" d="M2.0 110.0 L([^"]+)"', drawn).group(1)
    assert heights.startswith("2.0 18.0 L81.0 18.0")  # the top of the plot, a quarter of its width
    assert "no values" in plots.histogram(Histogram((0.0, 1.0), (0.0,), (0.0,), ("0", "1")), "x")


def test_bars_are_in_proportion():
    drawn = str(plots.bars(Bars(("a", "b"), (0.8, 0.2), (0.4, 0.6), 0), "x"))
    widths = [float(w) for w in re.findall(r'-bar" x="\d+" y="\d+" width="([\d.]+)"', drawn)]
    assert np.array(widths) / widths[0] == pytest.approx([1, 0.5, 0.25, 0.75], abs=0.01)
    assert "no values" in plots.bars(Bars((), (), (), 0), "x")


def test_the_map_is_dark_where_pairs_are_beyond_their_floor():
    errors = np.array([[np.nan, 0.3, 0.05], [0.3, np.nan, 0.1], [0.05, 0.1, np.nan]])
    pairs = PairProfile(("a", "b", "c"), errors, np.full((3, 3), 0.1))
    shades = [float(x) for x in re.findall(r'fill-opacity="([\d.]+)"', str(plots.heatmap(pairs)))]
    assert shades == pytest.approx([1.0, 0.04, 0.04])
    assert plots.heatmap_scale(pairs) == pytest.approx(0.2)
    assert pairs.worst(1) == [("a", "b", 0.3, 0.1)]


def test_labels_fit_their_room():
    assert plots.fitted("short", 100, 11) == "short"
    assert plots.fitted("a  b\nc", 100, 11) == "a b c"
    assert plots.fitted("日本語日本語日本語日本語", 60, 11).endswith("…")
    assert len(plots.fitted("w" * 50, 60, 11)) < len(plots.fitted("i" * 50, 60, 11))


def test_axis_numbers_are_short():
    assert [short_number(x) for x in (0, 0.25, 1200, 45_000, 1.5e6, 2e9, -3e12)] == [
        "0", "0.25", "1,200", "45k", "1.5M", "2B", "-3T",
    ]  # fmt: skip
