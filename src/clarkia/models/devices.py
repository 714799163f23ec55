"""Where a model computes."""

import torch

from clarkia.errors import DataError


def chosen_device(name: str) -> torch.device:
    """The device that an estimator's option names; "auto" is an accelerator where there is one.

    Raises:
        DataError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"device: there is no {name!r} here; use 'auto' or 'cpu'") from error
    return torch.device(name)
