"""The tutorials run from top to bottom and print what they say they print."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted((DOCS / "tutorials").glob("*.md"))
FENCE = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    blocks = FENCE.findall(text)
    assert blocks
    scope = {"__name__": page.stem}
    for place, (kind, block) in enumerate(blocks):
        if kind == "python":
            exec(compile(block, f"{page.name}, block {place}", "exec"), scope)
        else:
            assert capsys.readouterr().out == block, f"block {place} of {page.name}"
    for image in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (page.parent / image).exists()
        recorded = "benchmarks" in Path(image).parts  # else the page made its own picture
        assert recorded or (tmp_path / Path(image).name).exists()
