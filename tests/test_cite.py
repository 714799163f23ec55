import ast
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from clarkia.cite import METHODS, cite, methods, page, resolve
from clarkia.samplers import Heun

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.public_name}-{method.year}")
def test_every_method_has_a_name_a_proof_and_a_figure_that_exist(method):
    assert callable(resolve(method.public_name))
    assert 1900 < method.year < 2100
    file, _, function = method.proof.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not method.figure or (ROOT / method.figure).is_file()


def test_no_method_is_listed_twice():
    assert len({(method.title, method.public_name) for method in METHODS}) == len(METHODS)
    assert methods() is METHODS
    with pytest.raises(FrozenInstanceError):
        METHODS[0].year = 2000


def test_a_class_an_instance_and_a_name_are_cited_alike():
    titles = [str(method) for method in cite(Heun)]
    assert titles == ["Elucidating the Design Space of Diffusion-Based Generative Models (2022)"]
    assert cite(Heun()) == cite(Heun) == cite("clarkia.samplers.Heun")
    assert cite(resolve("clarkia.guidance.classifier_free"))[0].kind == "guidance"


def test_what_only_shares_a_name_is_not_cited():
    class Heun:
        pass

    assert cite(Heun) == cite(Heun()) == cite(3) == cite("Heun") == ()


def test_the_page_of_methods_is_up_to_date():
    """Otherwise: make docs."""
    assert (ROOT / "docs" / "methods.md").read_text() == page()
