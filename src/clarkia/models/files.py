"""The model file: one zip of JSON, safetensors and Arrow, written in one piece and trusted in none.

Members are `model.json`, `weights.safetensors` and `tables/NAME.arrow` (Arrow IPC streams), stored without compression,
so that what a file unpacks to is never larger than the file. `model.json` names every other member with its size and
SHA-256, and carries a hash of the schema: the kind, the configuration and the columns of the tables.
"""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ..atomic import replacing
from ..errors import DataError
from .arrow import table_from_bytes, table_to_bytes

FORMAT = 1
MANIFEST = "model.json"
WEIGHTS = "weights.safetensors"

_TABLE = re.compile(r"tables/([A-Za-z0-9_][A-Za-z0-9_.-]{0,99})\.arrow")
_MAX_MANIFEST_BYTES = 256 * 2**20
_MAX_MEMBERS = 10_000
_SAME_DATE = (1980, 1, 1, 0, 0, 0)  # the same model gives the same bytes

# What zipfile raises on files that were not made by it.
_BAD_ZIP = (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, OverflowError, IndexError, zipfile.LargeZipFile)


@dataclass(frozen=True)
class ModelParts:
    """What a model file holds.

    Attributes:
        kind: the kind of model, "table" for instance.
        config: its configuration, JSON values.
        weights: its tensors by name, on the CPU.
        tables: its Arrow tables by name.
        made_by: the version of clarkia that wrote the file.
        schema_hash: SHA-256 of kind, configuration and table columns; models that read the same rows share it.
    """

    kind: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    tables: dict[str, pa.Table]
    made_by: str
    schema_hash: str


def write_model(
    path: str | os.PathLike[str],
    *,
    kind: str,
    config: dict[str, Any],
    weights: Mapping[str, Tensor],
    tables: Mapping[str, pa.Table],
    overwrite: bool = False,
) -> None:
    """Write a model file; a file that is already there stays whole until the new one is complete.

    Args:
        path: the file.
        kind: the kind of model.
        config: the configuration, JSON values without infinities or NaN.
        weights: tensors by name.
        tables: Arrow tables by name (letters, digits, underscore, dot, hyphen).
        overwrite: whether an existing file may be replaced.

    Raises:
        DataError: the path exists and `overwrite` is false, or cannot be written.
        ValueError: the configuration is not JSON, or a table's name has other characters.
    """
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}
    members = {WEIGHTS: safetensors.torch.save(tensors)}
    for name, table in tables.items():
        member = f"tables/{name}.arrow"
        if not _TABLE.fullmatch(member):
            raise ValueError(f"{name!r} cannot be the name of a table in a model file")
        members[member] = table_to_bytes(table)
    manifest = {
        "format": FORMAT,
        "clarkia": version("clarkia"),
        "kind": kind,
        "schema_hash": _schema_hash(kind, config, tables),
        "members": {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in members.items()},
        "config": config,
    }
    text = json.dumps(manifest, indent=1, allow_nan=False).encode()
    with replacing(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in {MANIFEST: text, **members}.items():
            archive.writestr(zipfile.ZipInfo(name, _SAME_DATE), data)


def read_model(path: str | os.PathLike[str]) -> ModelParts:
    """Read a model file, whoever made it: nothing in it is run, and nothing is allocated beyond the size of the file.

    Args:
        path: the file.

    Returns:
        Its parts.

    Raises:
        DataError: the file is missing, is not a model file, is cut short or altered, or was made by a newer version.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive, size)
    except FileNotFoundError as error:
        raise DataError(f"there is no model file {path}; check its name") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except _BAD_ZIP as error:
        if isinstance(error, DataError):
            raise
        if _starts_like_zip(path):
            raise _damaged(path, "the archive is cut short or altered") from error
        raise DataError(f"{path} is not a clarkia model file") from error


def require_kind(parts: ModelParts, kind: str, path: str | os.PathLike[str]) -> None:
    """Refuse a file that holds a model of another kind.

    Raises:
        DataError: it does.
    """
    if parts.kind != kind:
        raise DataError(f"{path} holds a model of the kind {parts.kind!r}, not {kind!r}; open it with clarkia.load")


def _read_archive(path: Path, archive: zipfile.ZipFile, size: int) -> ModelParts:
    infos = archive.infolist()
    manifest = _read_manifest(path, archive, infos)
    _check_members(path, infos, manifest["members"], size)
    weights: dict[str, Tensor] = {}
    tables: dict[str, pa.Table] = {}
    for name, declared in manifest["members"].items():
        data = archive.read(name)
        if len(data) != declared["bytes"] or _sha256(data) != declared["sha256"]:
            raise _damaged(path, f"its part {name} does not match its checksum")
        try:
            if match := _TABLE.fullmatch(name):
                tables[match[1]] = table_from_bytes(data)
            else:
                # Checks the offsets and sizes in the header against the bytes there are before it makes any tensor.
                weights = safetensors.torch.load(data)
        except (SafetensorError, pa.ArrowException, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise _damaged(path, f"its part {name} cannot be read") from error
    kind, config = manifest["kind"], manifest["config"]
    if _schema_hash(kind, config, tables) != manifest["schema_hash"]:
        raise _damaged(path, "its configuration does not match its checksum")
    return ModelParts(kind, config, weights, tables, manifest["clarkia"], manifest["schema_hash"])


def _read_manifest(path: Path, archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> dict[str, Any]:
    found = [info for info in infos if info.filename == MANIFEST]
    if len(found) != 1:
        raise DataError(f"{path} is not a clarkia model file: it has no single {MANIFEST}")
    if found[0].compress_type != zipfile.ZIP_STORED or found[0].file_size > _MAX_MANIFEST_BYTES:
        raise _damaged(path, f"{MANIFEST} is compressed or too large")
    try:
        manifest = json.loads(archive.read(found[0]))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{MANIFEST} is not JSON") from error
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise DataError(f"{path} is not a clarkia model file: {MANIFEST} has no format number")
    if manifest["format"] > FORMAT:
        made = f"format {manifest['format']}, this one reads {FORMAT}"
        raise DataError(f"{path} was made by a newer clarkia ({made}); upgrade clarkia")
    kinds = {"clarkia": str, "kind": str, "schema_hash": str, "members": dict, "config": dict}
    for name, kind in kinds.items():
        if not isinstance(manifest.get(name), kind):
            raise _damaged(path, f"{MANIFEST} lacks a proper {name!r}")
    for declared in manifest["members"].values():
        if not isinstance(declared, dict) or declared.keys() != {"bytes", "sha256"}:
            raise _damaged(path, f"{MANIFEST} lacks a proper list of members")
    return manifest


def _check_members(path: Path, infos: list[zipfile.ZipInfo], declared: dict[str, Any], size: int) -> None:
    """Only the declared members, each once, under a known name, uncompressed, and together no larger than the file."""
    names = [info.filename for info in infos]
    expected = {MANIFEST, WEIGHTS, *declared}
    if len(names) > _MAX_MEMBERS or len(names) != len(set(names)) or set(names) != expected or WEIGHTS not in declared:
        raise _damaged(path, f"its members are not those that {MANIFEST} lists")
    for name in declared:
        if name != WEIGHTS and not _TABLE.fullmatch(name):
            raise _damaged(path, f"the member name {name!r} is not allowed")
    if any(info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size for info in infos):
        raise _damaged(path, "it holds compressed members")
    if sum(info.file_size for info in infos) > size:
        raise _damaged(path, "its members claim more bytes than the file has")


def _schema_hash(kind: str, config: dict[str, Any], tables: Mapping[str, pa.Table]) -> str:
    columns = {name: [[field.name, str(field.type)] for field in table.schema] for name, table in tables.items()}
    return _sha256(json.dumps([kind, config, columns], sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _starts_like_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _damaged(path: Path, how: str) -> DataError:
    return DataError(f"the model file {path} is damaged: {how}; get a fresh copy or fit again")
