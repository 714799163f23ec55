"""The module in training cut up among the processes, with its moments and averages, where one cannot hold it all."""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ..random import Noise
from ..spaces import State
from .blocks import blocks
from .objective import Objective
from .processes import Processes

# Modules hold spaces and processes, which hold read-only dicts, and these Python does not copy by itself.
copyreg.pickle(MappingProxyType, lambda proxy: (MappingProxyType, (dict(proxy),)))


class Sharded:
    """A trainee (see `Trainee`) of which each process holds a part of every weight, after FSDP2.

    A copy of the module is cut up, so that the module itself stays one that anybody can call. It waits in the memory of
    the CPU, is lent with the weights that are to be validated, and gets the final ones. Weights without axes, which
    cannot be cut, are held by all. Of the others the loss of every process must use the same in a step.

    Args:
        objective: makes the objective of a module.
        processes: those that train it.
        device: of this process.
    """

    def __init__(self, objective: Objective, processes: Processes, device: torch.device):
        self._module, self._processes, self._device = objective.module, processes, device
        processes.broadcast(self._module.state_dict().values())
        self._objective = objective
        objective.module = self._trained = copy.deepcopy(self._module)
        self._module.to("cpu")
        mesh = init_device_mesh(device.type, (processes.size,))
        uncut = {weight for weight in self._trained.parameters() if weight.ndim == 0}
        for block in blocks(self._trained):
            fully_shard(block, mesh=mesh, ignored_params=uncut)
        fully_shard(objective, mesh=mesh, ignored_params=uncut)
        self.layout = dict(self._trained.state_dict())
        self._weights = {name: weight for name, weight in self._trained.named_parameters() if weight.requires_grad}
        self.followed = _parts(self._module, self._trained)
        self._masters = dict(self.followed.named_parameters())

    def train(self) -> None:
        """See `Trainee`."""
        self._trained.train()

    def backward(self, batch: State, noise: Noise, weight: float, *, last: bool) -> Tensor:
        """See `Trainee`; the gradients of every part are summed up and cut at once, which keeps them small."""
        means = self._objective(batch, noise, weight)
        (means.sum() * self._processes.size).backward()
        return means.detach()

    @torch.no_grad()
    def finish_gradients(self) -> Tensor:
        """See `Trainee`."""
        cut = [weight for weight in self._weights.values() if isinstance(weight, DTensor)]
        uncut = [weight for weight in self._weights.values() if not isinstance(weight, DTensor)]
        used = self._processes.largest(*(float(weight.grad is not None) for weight in uncut)) if uncut else ()
        for weight, anywhere in zip(uncut, used, strict=True):
            if anywhere:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                self._processes.add_up(weight.grad).div_(self._processes.size)
        for name, weight in self._weights.items():
            if isinstance(weight.grad, DTensor):
                self._masters[name].grad = _own(weight.grad)
        squares = self._processes.add_up(self._square(_own(w.grad) for w in cut if w.grad is not None))
        return (squares + self._square(w.grad for w in uncut if w.grad is not None)).sqrt()

    def _square(self, gradients: Iterable[Tensor]) -> Tensor:
        """The sum of the squares of all numbers."""
        return torch.nn.utils.get_total_norm(gradients).to(self._device).square()

    def clear_gradients(self) -> None:
        """See `Trainee`."""
        for name, weight in self._weights.items():
            weight.grad = self._masters[name].grad = None

    @torch.no_grad()
    def whole(self, name: str, part: Tensor) -> Tensor:
        """See `Trainee`."""
        like = self.layout[name]
        if not isinstance(like, DTensor):
            return part
        return DTensor.from_local(
            part.to(self._device), like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
        ).full_tensor()

    def part(self, name: str, whole: Tensor) -> Tensor:
        """See `Trainee`; rows are cut as `torch.chunk` cuts them, the last processes may have none."""
        if not isinstance(self.layout[name], DTensor):
            return whole
        chunks = whole.chunk(self._processes.size)
        return chunks[self._processes.rank] if self._processes.rank < len(chunks) else whole[:0]

    @contextmanager
    def carrying(self, weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
        """See `Trainee`; the main process alone has the module on its device."""
        self._fill(weights)
        self._module.eval()
        try:
            with torch.no_grad():
                yield self._module.to(self._device) if self._processes.main else self._module
        finally:
            self._module.to("cpu")

    def leave(self, weights: Mapping[str, Tensor]) -> None:
        """See `Trainee`."""
        self._fill(weights)
        self._module.to(self._device).eval()
        self._processes.broadcast(self._module.state_dict().values())

    @torch.no_grad()
    def _fill(self, weights: Mapping[str, Tensor]) -> None:
        """Gather the weights of all processes in the uncut module, one after the other."""
        for name, target in self._module.state_dict().items():
            target.copy_(self.whole(name, weights[name]))


def _parts(module: nn.Module, trained: nn.Module) -> nn.Module:
    """A module of the same build whose tensors are this process's parts of a cut one's, sharing their memory."""
    parts = copy.deepcopy(module).to("meta")
    made: dict[int, nn.Parameter] = {}  # a weight that has two names is one weight
    for name, tensor in trained.state_dict(keep_vars=True).items():
        owner, _, leaf = name.rpartition(".")
        holder = parts.get_submodule(owner)
        if isinstance(tensor, DTensor):
            made.setdefault(id(tensor), nn.Parameter(_own(tensor), requires_grad=tensor.requires_grad))
            setattr(holder, leaf, made[id(tensor)])
        else:
            setattr(holder, leaf, tensor)
    return parts


def _own(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, sharing its memory."""
    with torch.no_grad():
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()
