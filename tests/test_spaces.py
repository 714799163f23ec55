import json
import pickle

import pytest
import torch

from clarkia import spaces
from clarkia.spaces import Categorical, Continuous, Mixed

TABLE = Mixed(numeric=Continuous((3,)), levels=Categorical((2,), num_classes=(4, 2)))


@pytest.mark.parametrize(
    "space", [Continuous(), Continuous((3, 8, 8)), Categorical(num_classes=5), Categorical((7,), num_classes=5), TABLE]
)
def test_a_space_survives_json(space):
    back = spaces.from_dict(json.loads(json.dumps(space.to_dict())))
    assert back == space
    assert hash(back) == hash(space)


def test_a_mixed_space_keeps_order_and_pickles_for_workers():
    space = Mixed.from_blocks({"b b": Continuous(), "a": Categorical(num_classes=2)})
    assert list(space.blocks) == ["b b", "a"]
    assert space.shape == {"b b": (), "a": ()}
    assert pickle.loads(pickle.dumps(space)) == space
    assert TABLE.blocks["levels"].max_classes == 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Continuous((0,)), "positive lengths"),
        (lambda: Categorical((2,), num_classes=(3,)), "one class count"),
        (lambda: Categorical(num_classes=0), "at least one class"),
        (lambda: Mixed(), "at least one block"),
        (lambda: Mixed(a=3), r"blocks\['a'\]"),
        (lambda: spaces.from_dict({"kind": "circle"}), "kind"),
        (lambda: spaces.from_dict({"kind": "continuous", "shape": [2], "extra": 1}), "fields"),
    ],
)
def test_an_impossible_space_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


GOOD = {"numeric": torch.zeros(5, 3), "levels": torch.ones(5, 2, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"numeric": torch.zeros(5, 4)}, r"state\['numeric'\].*\(5, 4\)"),
        ({"numeric": torch.full((5, 3), torch.nan)}, "row 0"),
        ({"numeric": torch.zeros(5, 3, dtype=torch.int64)}, "floating"),
        ({"levels": torch.tensor([[0, 0]] * 4 + [[0, 2]])}, r"from 0 to 1 at position \[1\], found 2"),
        ({"levels": torch.zeros(5, 2)}, "int64"),
        ({"numeric": torch.zeros(4, 3)}, "same number of rows"),
    ],
)
def test_a_state_outside_the_space_is_refused(change, words):
    TABLE.check(GOOD)
    with pytest.raises(ValueError, match=words):
        TABLE.check({**GOOD, **change})


def test_the_mask_is_a_state_only_where_asked():
    levels, x = TABLE.blocks["levels"], torch.tensor([[4, 2]])
    levels.check(x, masks=True)
    with pytest.raises(ValueError, match="from 0 to 3"):
        levels.check(x)


def test_rows_of_a_state():
    assert spaces.num_rows(GOOD) == 5
    few = spaces.take_rows({**GOOD, "numeric": torch.arange(15.0).reshape(5, 3)}, torch.tensor([4, 0]))
    assert few["numeric"][:, 0].tolist() == [12.0, 0.0]
    assert few["levels"].shape == (2, 2)
