import itertools
import threading
import time

import numpy as np
import pytest
import torch
import toy_training as toy

from clarkia.errors import DataError
from clarkia.training import Locality, TrainingOptions, fit
from clarkia.training.prefetch import batches, parts, prefetched
from clarkia.training.sources import InMemory, WindowOrder, as_source, order_of

CPU = torch.device("cpu")
PIECES = torch.tensor([7, 0, 12, 5, 3, 9, 4])  # 40 rows


def our_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("clarkia")]


class Counted:
    """The toy's data as a source, with a note of what was read and where."""

    def __init__(self, data=None, pause=0.0):
        self.data, self.pause, self.asked = toy.data() if data is None else data, pause, []

    def __len__(self):
        return len(self.data["x"])

    def rows(self, indices):
        time.sleep(self.pause)
        self.asked.append((indices, threading.current_thread().name))
        return {name: block[indices] for name, block in self.data.items()}

    def fingerprint(self):
        return 11


class Pieces(Counted):
    locality = Locality(torch.tensor([50, 30, 120]), 60)


@pytest.mark.parametrize("batch", [1, 7, 40, 100])
@pytest.mark.parametrize("window", [1, 10, 1000])
def test_every_epoch_of_pieces_holds_every_row_once(batch, window):
    order = WindowOrder(Locality(PIECES, window), batch, seed=5)
    steps = -(-120 // batch)
    drawn = torch.cat([order.batch(step) for step in range(steps)])[:120]
    epochs = drawn.reshape(3, 40)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(40).expand(3, 40))
    assert not torch.equal(epochs[0], epochs[1])


def test_few_pieces_are_open_at_a_time():
    """In each run of 10 rows, a window, rows come from at most two windows of neighbours in the order of the pieces."""
    pieces = torch.full((100,), 5)
    order = WindowOrder(Locality(pieces, 10), 10, seed=1)
    touched = [set((order.batch(step) // 5).tolist()) for step in range(50)]
    assert all(len(pieces) <= 4 for pieces in touched)
    # A piece that is left is not opened again within the epoch.
    last = {piece: step for step, pieces in enumerate(touched) for piece in pieces}
    first = {piece: step for step, pieces in reversed(list(enumerate(touched))) for piece in pieces}
    assert all(last[piece] - first[piece] <= 1 for piece in last)
    assert sorted(first) == list(range(100))
    assert sorted(first, key=first.__getitem__) != list(range(100))


def test_rows_of_a_window_are_mixed_uniformly():
    """Over 1000 seeds each of six rows comes first equally often: chi-square of 5 degrees, alarm at 1 in 1000."""
    first = [int(WindowOrder(Locality(torch.tensor([2, 4]), 6), 1, seed).batch(0)) for seed in range(1000)]
    counts = np.bincount(first, minlength=6)
    assert ((counts - 1000 / 6) ** 2 / (1000 / 6)).sum() < 20.5


def test_a_batch_of_pieces_depends_on_the_seed_and_the_step_alone():
    locality = Locality(PIECES, 10)
    forward = [WindowOrder(locality, 6, seed=1).batch(step) for step in range(20)]
    order = WindowOrder(locality, 6, seed=1)
    assert all(torch.equal(order.batch(step), forward[step]) for step in reversed(range(20)))
    assert not torch.equal(WindowOrder(locality, 6, seed=2).batch(0), forward[0])


def test_a_source_without_pieces_has_the_order_of_data_in_memory():
    source = Counted()
    assert torch.equal(order_of(source, 48, 3).batch(9), order_of(InMemory(toy.data()), 48, 3).batch(9))
    assert isinstance(order_of(Pieces(), 48, 3), WindowOrder)


def trained(data, **changes):
    network = toy.module()
    options = TrainingOptions(**{**toy.OPTIONS, **changes})
    fit(network, toy.loss, data, options=options, validate=toy.validate, progress=False)
    return network.state_dict()


@pytest.mark.parametrize("read_ahead", [0, 1, 4])
def test_a_source_trains_to_the_same_bits_as_the_same_rows_in_memory(read_ahead):
    source = Counted()
    expected, found = trained(toy.data()), trained(source, read_ahead=read_ahead)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert any(name.startswith("clarkia") for _, name in source.asked) is (read_ahead > 0)
    assert len(source.asked) <= 60 + read_ahead
    assert our_threads() == []


def test_a_source_resumes_to_the_same_bits(tmp_path):
    def run(path, *, objective=toy.loss, resume=False):
        network = toy.module()
        options = TrainingOptions(**toy.OPTIONS)
        fit(network, objective, Pieces(), options=options, checkpoint=path, resume=resume, progress=False)
        return network.state_dict()

    def interrupted(network, batch, generator, calls=itertools.count(1)):  # noqa: B008
        if next(calls) == 23:
            raise KeyboardInterrupt
        return toy.loss(network, batch, generator)

    expected = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", objective=interrupted)
    assert our_threads() == []
    found = run(tmp_path / "parts", resume=True)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    options = TrainingOptions(**toy.OPTIONS)
    with pytest.raises(DataError, match="made on different data"):
        fit(toy.module(), toy.loss, toy.data(), options=options, checkpoint=tmp_path / "parts", resume=True)


def test_batches_are_ready_in_time_and_in_order():
    ready, made = threading.Event(), []

    def make(number):
        time.sleep(0.02 if number % 2 else 0.0)
        made.append(number)
        if len(made) == 5:
            ready.set()
        return number * number

    with prefetched(make, 3, ahead=4) as get:
        assert get(3) == 9
        assert ready.wait(5)  # four more without being asked
        assert [get(number) for number in range(4, 9)] == [16, 25, 36, 49, 64]
    assert our_threads() == []


def test_an_error_while_reading_is_raised_in_the_loop_with_its_message():
    class Broken(Counted):
        def rows(self, indices):
            if len(self.asked) >= 10:  # two threads read at once
                raise DataError("the file cats/7.png is damaged; delete it")
            return super().rows(indices)

    with pytest.raises(DataError, match=r"^the file cats/7.png is damaged; delete it$"):
        trained(Broken())
    assert our_threads() == []


def test_threads_end_when_the_loop_fails():
    def broken(network, batch, generator):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(toy.module(), broken, Counted(pause=0.05), options=TrainingOptions(**toy.OPTIONS), progress=False)
    assert our_threads() == []


def test_a_share_of_the_batch_is_read_alone():
    source = Counted()
    arguments = {"batch_size": 10, "seed": 0, "device": CPU, "first": 4, "ahead": 0}
    with batches(source, share=slice(4, 8), **arguments) as batch_of:
        batch_of(4)
    assert torch.equal(source.asked[0][0], order_of(source, 10, 0).batch(4)[4:8])


def test_unusable_sources_are_refused():
    class Short(Counted):
        def rows(self, indices):
            return super().rows(indices[1:])

    with pytest.raises(ValueError, match=r"expected 48 rows from rows\(...\), found 47"):
        trained(Short())
    with pytest.raises(DataError, match="no rows"):
        as_source(Counted({"x": torch.zeros(0, 3)}))
    with pytest.raises(ValueError, match=r"data: expected tensors or a training.Source, found list"):
        as_source([1, 2])


@pytest.mark.parametrize(("rows", "count", "sizes"), [(10, 1, [10]), (10, 3, [3, 3, 4]), (2, 5, [1, 1])])
def test_parts_of_a_batch_are_its_rows_in_order(rows, count, sizes):
    batch = {"x": torch.arange(rows), "y": torch.arange(rows) * 2}
    cut = list(parts(batch, count))
    assert [len(part["x"]) for _, part in cut] == sizes
    assert torch.equal(torch.cat([part["y"] for _, part in cut]), batch["y"])
    assert all(torch.equal(batch["x"][where], part["x"]) for where, part in cut)
