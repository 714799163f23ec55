"""A training run on disk: one safetensors file whose header carries the numbers, replaced in one piece."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..atomic import replacing
from ..errors import DataError

FORMAT = 1


def save_checkpoint(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write a checkpoint, replacing the one at `path` only once the new one is on disk.

    Args:
        path: the file.
        tensors: all the tensors, by name, on any device.
        record: everything else, as JSON values.

    Raises:
        DataError: the path cannot be written.
    """
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    metadata = {"clarkia": json.dumps({"format": FORMAT, **record})}
    with replacing(path, overwrite=True) as temporary:
        try:
            save_file(copies, temporary, metadata=metadata)
        except SafetensorError as error:
            raise DataError(f"cannot write the checkpoint {path}: {error}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint back.

    Args:
        path: the file.

    Returns:
        The tensors by name, on the CPU, and the record.

    Raises:
        DataError: the file cannot be read, is not a checkpoint, is damaged, or was made by a newer version.
    """
    path = Path(path)
    unusable = f"{path} is not a readable checkpoint; delete it to start again"
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["clarkia"])
            # A copy of each tensor, because the file behind a mapped one may be replaced by the next checkpoint.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise DataError(f"cannot read the checkpoint {path}: {(error.strerror or str(error)).lower()}") from error
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(unusable) from error
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise DataError(unusable)
    if record["format"] > FORMAT:
        raise DataError(
            f"{path} was made by a newer clarkia (format {record['format']}, this one reads {FORMAT}); upgrade clarkia"
        )
    return tensors, record


def check_same(path: str | os.PathLike[str], saved: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose tensors are not those of the network in hand.

    Args:
        path: the checkpoint, for the message.
        saved: tensors of the checkpoint by name.
        expected: tensors of the network by name.

    Raises:
        DataError: names, shapes or number formats differ; the sentence names the first tensor that does.
    """

    def words(tensors: Mapping[str, Tensor], name: str) -> str:
        if name not in tensors:
            return "missing"
        return f"{tuple(tensors[name].shape)} {str(tensors[name].dtype).removeprefix('torch.')}"

    for name in [*expected, *(name for name in saved if name not in expected)]:
        in_file, in_network = words(saved, name), words(expected, name)
        if in_file != in_network:
            raise DataError(
                f"the checkpoint {path} belongs to a different network: {name!r} is {in_file} in the file and "
                f"{in_network} in the network; give the same network, or delete the file to start again"
            )
