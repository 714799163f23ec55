"""Where a model computes."""

import os

import torch

from clarkia.errors import DataError


def chosen_device(name: str) -> torch.device:
    """The device that an estimator's option names; "auto" is an accelerator where there is one.

    Of the processes that torchrun or `accelerate launch` started on a machine, each takes the next one.

    Raises:
        DataError: no such device here.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        place = os.environ.get("LOCAL_RANK", "")
        return (
            torch.device("cuda", int(place) % torch.cuda.device_count()) if place.isdecimal() else torch.device("cuda")
        )
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"device: there is no {name!r} here; use 'auto' or 'cpu'") from error
    return torch.device(name)
