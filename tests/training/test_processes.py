import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest
import together
import torch
from safetensors.torch import load_file

from clarkia.errors import DataError
from clarkia.training import TrainingOptions, fit
from clarkia.training.checkpoints import load_checkpoint
from clarkia.training.processes import Processes, in_touch

SCRIPT = str(Path(together.__file__))
RUNS = ("ddp", "fsdp", "parts", "fsdp-parts", "resumed-ddp", "resumed-fsdp")


def start(rank, port, folder):
    """One process of two, as torchrun starts it."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
    environment |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", SCRIPT, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes did (see `together.main`) until one of them was killed."""
    folder = tmp_path_factory.mktemp("together")
    for name in ("resumed-ddp", "resumed-fsdp"):
        together.run(folder / f"{name}.checkpoint", max_steps=8)
    port = free_port()
    with start(0, port, folder) as main, start(1, port, folder) as other:
        watch = Timer(100, main.kill)
        watch.start()
        try:
            assert main.stdout is not None
            steps = [main.stdout.readline() for _ in range(5)]
            other.send_signal(signal.SIGKILL)
            _, errors = main.communicate(timeout=30)
            assert all(steps), errors
        finally:
            watch.cancel()
            main.kill()
            other.kill()
    (folder / "status").write_text(str(main.returncode))
    (folder / "errors").write_text(errors)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    checkpoint = tmp_path_factory.mktemp("alone") / "checkpoint"
    return *together.run(checkpoint), load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_make_the_steps_of_one(folder, alone, name):
    network, summary, (tensors, record) = alone
    saved, saved_record = load_checkpoint(folder / f"{name}.checkpoint")
    assert saved.keys() == tensors.keys()
    for key, value in tensors.items():
        torch.testing.assert_close(saved[key], value, rtol=1e-6, atol=1e-6, msg=lambda m, key=key: f"{key}: {m}")
    for rank in range(2):
        for key, value in network.state_dict().items():
            torch.testing.assert_close(load_file(folder / f"{name}-{rank}")[key], value, rtol=1e-6, atol=1e-6)
    lines = {line["step"]: line for line in saved_record["history"]}
    # A run that was ended at step 8 has a line there, and its next one covers fewer steps.
    same = ("step", "validation") if "resumed" in name else [key for key in record["history"][0] if key != "seconds"]
    for expected in record["history"]:
        line = lines[expected["step"]]
        assert [line[key] for key in same] == pytest.approx([expected[key] for key in same], rel=1e-5)
    told = [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]
    assert told[0] == told[1]
    assert (told[0]["steps"], told[0]["stopped"], told[0]["best_step"]) == (20, "max_steps", summary.best_step)


@pytest.mark.parametrize("name", ["muon-ddp", "muon-fsdp"])
def test_two_processes_move_matrices_as_one_does(folder, tmp_path, name):
    network, _ = together.run(tmp_path / "checkpoint", optimizer="muon")
    tensors, saved = load_checkpoint(tmp_path / "checkpoint")[0], load_checkpoint(folder / f"{name}.checkpoint")[0]
    assert saved.keys() == tensors.keys()
    # The smallest singular values of a gradient, and their rounding with them, are raised by up to 3.4^5 = 480.
    for key, value in tensors.items():
        torch.testing.assert_close(saved[key], value, rtol=1e-4, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
    for key, value in network.state_dict().items():
        torch.testing.assert_close(load_file(folder / f"{name}-0")[key], value, rtol=1e-4, atol=1e-4)


def test_a_run_of_two_goes_on_in_one(folder, alone):
    network, _ = together.run(folder / "short-fsdp.checkpoint", resume=True)
    for key, value in alone[0].state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], value, rtol=1e-6, atol=1e-6)


def test_ctrl_c_in_one_process_ends_all_with_a_checkpoint(folder, alone):
    assert all((folder / f"interrupted-{rank}").exists() for rank in range(2))
    checkpoint = folder / "interrupted.checkpoint"
    assert load_checkpoint(checkpoint)[1]["step"] == 7
    network, _ = together.run(checkpoint, resume=True)
    for key, value in alone[0].state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], value, rtol=1e-6, atol=1e-6)


def test_a_lost_process_is_noticed_and_the_run_goes_on(folder):
    assert (folder / "status").read_text() == "1"
    message = (folder / "errors").read_text().strip().splitlines()[-1]
    assert "process 0 of 2 lost touch with another training process, which stopped or did not answer" in message
    assert "start all of them again with resume=True" in message
    checkpoint = folder / "endless.checkpoint"
    reached = load_checkpoint(checkpoint)[1]["step"]
    assert reached >= 5
    network, _ = together.run(checkpoint, resume=True, max_steps=reached + 5)
    whole, _ = together.run(None, max_steps=reached + 5)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rows", "size"), [(9, 2), (8, 3), (3, 3), (64, 1)])
def test_the_shares_of_a_batch_are_neighbours_of_nearly_one_size(rows, size):
    shares = [Processes(rank, size).share(rows) for rank in range(size)]
    assert torch.cat([torch.arange(rows)[share] for share in shares]).tolist() == list(range(rows))
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


def test_other_errors_are_left_as_they_are():
    with pytest.raises(RuntimeError, match=r"^shapes cannot be multiplied$"), in_touch(Processes(0, 2)):
        raise RuntimeError("shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match=r"^the gloo of one process$"), in_touch(Processes()):
        raise RuntimeError("the gloo of one process")


def test_a_batch_has_a_row_for_each_process(monkeypatch):
    from contextlib import nullcontext

    device = torch.device("cpu")
    monkeypatch.setattr("clarkia.training.loop.joined", lambda *_: nullcontext((Processes(0, 3), device)))
    with pytest.raises(DataError, match="batch_size must be at least 3, a row for each process"):
        fit(together.module(), together.loss, together.data(), options=TrainingOptions(max_steps=1, batch_size=2))
