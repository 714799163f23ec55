import pytest
import torch

from clarkia.measures.fronts import Sweep
from clarkia.reports import plot_front

DRAWS = torch.tensor([[[1.0, 3.0, 5.0]], [[2.0, 2.0, 4.0]], [[1.5, 1.5, 6.0]], [[3.0, 1.0, 1.0]]], dtype=torch.float64)


def a_sweep(draws=DRAWS, better=("higher", "higher", "lower")):
    settings = tuple({"scale": float(scale), "steps": 8} for scale in range(len(draws)))
    return Sweep(settings, ("consistency", "diversity", "distance")[: draws.shape[2]], better, draws)


def test_a_panel_for_every_two_axes_with_the_front_filled(tmp_path):
    figure = plot_front(a_sweep())
    assert [(panel.get_xlabel(), panel.get_ylabel()) for panel in figure.axes] == [
        ("consistency", "diversity"),
        ("consistency", "distance"),
        ("diversity", "distance"),
    ]
    first, second, _ = figure.axes
    faces = first.collections[-1].get_facecolors()
    assert [bool((face[:3] < 1).any()) for face in faces] == [True, True, False, True]
    assert not first.yaxis.get_inverted()
    assert second.yaxis.get_inverted()
    assert [text.get_text() for text in first.texts] == ["0", "1", "2", "3"]
    figure.savefig(tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 0


def test_steps_pass_through_what_is_best_on_the_two_axes():
    (panel,) = plot_front(a_sweep(DRAWS[:, :, [0, 2]], ("higher", "lower"))).axes
    steps = panel.lines[-1]
    # Two axes: far right with the least distance beats everything.
    assert steps.get_xdata().tolist() == [3.0]
    (panel,) = plot_front(a_sweep(DRAWS[:, :, :2], ("higher", "higher"))).axes
    assert list(zip(*panel.lines[-1].get_data(), strict=True)) == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]
    assert panel.lines[-1].get_drawstyle() == "steps-pre"


def test_standard_errors_are_drawn_and_knobs_are_chosen():
    figure = plot_front(a_sweep(torch.cat([DRAWS, DRAWS + 0.5], 1)), knob="steps")
    assert [text.get_text() for text in figure.axes[0].texts] == ["8"] * 4
    with pytest.raises(ValueError, match="knob: expected one of"):
        plot_front(a_sweep(), knob="temperature")
    with pytest.raises(ValueError, match="at least 2 axes"):
        plot_front(a_sweep(DRAWS[:, :, :1], ("higher",)))
