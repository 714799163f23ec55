"""A table model as the parts of a model file, and back."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from clarkia.codecs import TableCodec, constraints
from clarkia.errors import DataError
from clarkia.models import architecture, files
from clarkia.training import TrainingRun

if TYPE_CHECKING:
    from clarkia.models.table import TableModel


def write(model: TableModel, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a model to one file; see `TableModel.save`."""
    codec, tables = model.codec_.to_files()
    rules, own = constraints.to_files(model.rules_)
    parameters = model.get_params()
    if parameters["constraints"] is not None:
        parameters["constraints"] = [str(rule) for rule in parameters["constraints"]]
    config = {
        "parameters": parameters,
        "codec": codec,
        "rules": rules,
        "rows": model.n_rows_,
        "columns": list(model.feature_names_in_),
        "training": asdict(model.training_run_),
        "frame": type(model._like).__module__.split(".")[0],
    }
    weights = model.denoiser_.state_dict()
    files.write_model(path, kind="table", config=config, weights=weights, tables=tables | own, overwrite=overwrite)


def fill(kind: type[TableModel], parts: files.ModelParts, path: str | os.PathLike[str]) -> TableModel:
    """The model that the parts of a model file describe.

    Raises:
        DataError: they describe none.
    """
    files.require_kind(parts, "table", path)
    try:
        config = parts.config
        model = kind(**config["parameters"])
        architecture.check_options(model)
        codec = TableCodec.from_files(config["codec"], parts.tables)
        rules = constraints.RuleEncoding(codec.schema)  # of files that know of none
        if "rules" in config:
            rules = constraints.from_files(config["rules"], parts.tables, codec.schema)
        process, denoiser = architecture.build(codec, model)
        denoiser.load_state_dict(parts.weights)
        model.training_run_ = TrainingRun(**config["training"])
        model._like = _empty_frame(config["frame"])
        return model._fitted(codec, rules, process, denoiser.eval(), config["rows"], config["columns"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"the model file {path} does not describe a table model; get a fresh copy") from error


def _empty_frame(kind: str) -> Any:
    """A frame of the kind that a model was fitted on, to make others like it."""
    if kind == "polars":
        import polars

        return polars.DataFrame()
    return pd.DataFrame() if kind == "pandas" else pa.table({})
