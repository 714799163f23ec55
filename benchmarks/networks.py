"""A training step of our convolutional network and of diffusers', the same channel plan: images a second.

    pip install diffusers
    python benchmarks/networks.py [--rounds 8]

Each round takes a step of every network, one after the other, so all meet the same machine; a ratio is the median over
rounds of theirs over ours, above 1 where ours is faster. A step is a forward pass, the mean squared error, a backward
pass and Adam.
"""

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from clarkia.networks.counts import flops, num_parameters
from clarkia.networks.unet import UNet
from clarkia.random import generator, randn

RESULTS = Path(__file__).parent / "results" / "networks.md"


@dataclass(frozen=True)
class Plan:
    """A channel plan and the images it is for."""

    name: str
    channels: int
    size: int
    batch: int
    width: int
    multipliers: tuple[int, ...]
    blocks: int = 2
    attention: tuple[int, ...] = (1,)
    bfloat16: bool = False


PLANS = (
    Plan("grey 28x28, width 32", 1, 28, 32, 32, (1, 2, 2)),
    Plan("colour 32x32, width 64", 3, 32, 8, 64, (1, 2, 2)),
    Plan("colour 32x32, width 64, bfloat16", 3, 32, 8, 64, (1, 2, 2), bfloat16=True),
    Plan("colour 64x64, width 64, four levels", 3, 64, 2, 64, (1, 2, 3, 4), attention=(2, 3)),
)


def ours(plan: Plan) -> nn.Module:
    return UNet(
        plan.channels, width=plan.width, multipliers=plan.multipliers, blocks=plan.blocks, attention=plan.attention
    )


class Theirs(nn.Module):
    """diffusers' network, called as ours."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        levels = range(len(plan.multipliers))
        self.network = UNet2DModel(
            sample_size=plan.size,
            in_channels=plan.channels,
            out_channels=plan.channels,
            layers_per_block=plan.blocks,
            block_out_channels=tuple(plan.width * multiplier for multiplier in plan.multipliers),
            down_block_types=tuple(
                "AttnDownBlock2D" if i in plan.attention else "ResnetDownsampleBlock2D" for i in levels
            ),
            up_block_types=tuple(
                "AttnUpBlock2D" if i in plan.attention else "ResnetUpsampleBlock2D" for i in reversed(levels)
            ),
            downsample_type="resnet",
            upsample_type="resnet",
            resnet_time_scale_shift="scale_shift",
            attention_head_dim=64,
            norm_num_groups=32,
        )

    def forward(self, x: Tensor, noise: Tensor, condition: Any = None) -> Tensor:
        return self.network(x, noise).sample


def stepper(network: nn.Module, plan: Plan) -> Callable[[], None]:
    """One training step, on the same images each time."""
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    noise = generator(0)
    x = randn((plan.batch, plan.channels, plan.size, plan.size), noise)
    target, level = randn(x.shape, noise), randn((plan.batch,), noise)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.bfloat16):
            answer = network(x, level)
        (answer.float() - target).square().mean().backward()
        optimiser.step()

    return step


def seconds(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def race(networks: dict[str, nn.Module], plan: Plan, rounds: int) -> dict[str, list[float]]:
    """Seconds of every step by network; the order turns with the rounds, and the first two warm up."""
    steps = {name: stepper(network, plan) for name, network in networks.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for turn in range(rounds + 2):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            spent = seconds(steps[name])
            if turn >= 2:
                times[name].append(spent)
    return times


def row(plan: Plan, rounds: int) -> str:
    torch.manual_seed(0)
    networks = {"ours": ours(plan), "diffusers": Theirs(plan)}
    with torch.no_grad():
        work = flops(networks["ours"], torch.zeros(1, plan.channels, plan.size, plan.size), torch.zeros(1))
    times = race(networks, plan, rounds)
    ratio = median(b / a for a, b in zip(times["ours"], times["diffusers"], strict=True))
    best = {name: plan.batch / median(spent) for name, spent in times.items()}
    sizes = {name: num_parameters(network) for name, network in networks.items()}
    line = (
        f"| {plan.name} | {plan.batch} | {work / 1e9:.2f} | {sizes['ours']:,} | {sizes['diffusers']:,} "
        f"| {best['ours']:.1f} | {best['diffusers']:.1f} | {ratio:.2f} |"
    )
    print(line, flush=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--plans", nargs="*", type=int, default=list(range(len(PLANS))))
    parser.add_argument("--print", action="store_true", help="print, leave the results file as it is")
    options = parser.parse_args()
    import diffusers

    rows = [row(PLANS[index], options.rounds) for index in options.plans]
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    text = f"""# A training step of the convolutional network

{__doc__.split("rounds 8]")[1].strip()}

`python benchmarks/networks.py --rounds {options.rounds}` on {machine}, torch {torch.__version__}, diffusers \
{diffusers.__version__}.

| images | batch | multiply-adds an image, 1e9 | parameters, ours | diffusers | images/s, ours | diffusers | ratio |
|---|---|---|---|---|---|---|---|
""" + "\n".join(rows)
    if not options.print:
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
