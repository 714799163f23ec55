"""Categorical columns: kept values as classes, and one bucket for the rare rest."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from clarkia.codecs.table import arrow
from clarkia.codecs.table.arrow import Floats, Mask
from clarkia.codecs.table.options import CodingOptions

Levels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CategoryCoding:
    """The classes of one categorical column; a missing class is not among them.

    Attributes:
        kind: Arrow type of the column (a dictionary type for a categorical one).
        values: kept values, in ascending or dictionary order, of the type of the cells.
        rare_values: values of the rare bucket (empty where there is none), the last class.
        rare_counts: rows of each in training.
        dictionary: the column's own dictionary, None for a plain column.
    """

    kind: pa.DataType
    values: pa.Array
    rare_values: pa.Array
    rare_counts: NDArray[np.int64]
    dictionary: pa.Array | None

    @property
    def rare(self) -> int | None:
        """Class of the rare bucket."""
        return len(self.values) if len(self.rare_values) else None

    @property
    def num_levels(self) -> int:
        """Number of classes."""
        return len(self.values) + (self.rare is not None)

    has_residual = False

    @cached_property
    def is_group(self) -> NDArray[np.bool_]:
        """No class carries a residual."""
        return np.zeros(self.num_levels, bool)

    def find(self, array: pa.Array) -> Levels:
        """Return the class of each cell of an array without nulls, -1 for values never seen."""
        cells = plain(array)
        classes = np.asarray(pc.index_in(cells, self.values).fill_null(-1).to_numpy()).astype(np.int64)
        unknown = np.flatnonzero(classes < 0)
        if len(unknown) and self.rare is not None:
            in_bucket = np.asarray(
                pc.is_in(cells.take(pa.array(unknown)), self.rare_values).to_numpy(zero_copy_only=False)
            )
            classes[unknown[in_bucket]] = self.rare
        return classes

    def encode(self, array: pa.Array, rng: np.random.Generator) -> tuple[Levels, Floats | None]:
        """Return the class of each cell of an array without nulls (-1 for values never seen) and no residual."""
        return self.find(array), None

    @cached_property
    def _all_values(self) -> pa.Array:
        return pa.concat_arrays([self.values, self.rare_values])

    @cached_property
    def _rare_edges(self) -> Floats:
        return np.cumsum(self.rare_counts)[:-1] / self.rare_counts.sum()

    def decode(self, levels: Levels, missing: Mask | None, uniforms: Floats | None) -> pa.Array:
        """Return the cells of classes; rare ones are drawn from their training frequencies with ``uniforms``."""
        if self.rare is not None and uniforms is not None:
            rare = np.flatnonzero(levels == self.rare)
            levels = levels.copy()
            levels[rare] += np.searchsorted(self._rare_edges, uniforms[rare], side="right")
        if self.dictionary is None:
            return self._all_values.take(pa.array(levels, mask=missing)).cast(self.kind)
        places = np.asarray(pc.index_in(self._all_values, plain(self.dictionary)).to_numpy())[levels]
        indices = pa.array(places, mask=missing).cast(self.kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, self.dictionary, ordered=self.kind.ordered)

    def log_slope(self, levels: Levels, z: Floats) -> Floats:
        """Return zeros."""
        return np.zeros(len(levels))


def cell_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's categories: that behind a dictionary, float32 for an unhashable float16."""
    if pt.is_dictionary(kind):
        kind = kind.value_type
    return pa.float32() if pt.is_float16(kind) else arrow.working_type(kind)


def plain(array: pa.Array) -> pa.Array:
    """Return the cells of a column as categories."""
    return (array.dictionary_decode() if pt.is_dictionary(array.type) else array).cast(cell_type(array.type))


def fit_category(array: pa.Array, options: CodingOptions) -> CategoryCoding:
    """Fit the classes of a categorical column from its cells that are not missing."""
    kind = array.type
    dictionary = array.dictionary if pt.is_dictionary(kind) else None
    counted = pc.value_counts(plain(array))
    values, counts = counted.field("values"), np.asarray(counted.field("counts").to_numpy())
    if dictionary is not None:
        rank = np.asarray(pc.index_in(values, plain(dictionary)).to_numpy())
    else:
        rank = np.argsort(np.asarray(pc.sort_indices(values).to_numpy()))
    order = np.lexsort([rank, -counts])
    kept = len(values)
    if len(values) > options.max_levels:
        mass = np.cumsum(counts[order]) / counts.sum()
        kept = min(int(np.searchsorted(mass, options.kept_mass)) + 1, options.max_values, len(values))
    if kept + 1 == len(values):  # a bucket of one value saves nothing
        kept = len(values)
    common, rare = order[:kept], order[kept:]
    common = common[np.argsort(rank[common])]
    return CategoryCoding(
        kind,
        values.take(pa.array(common)),
        values.take(pa.array(rare)),
        counts[rare].astype(np.int64),
        dictionary,
    )
