"""Selection: which rows of a pool serve a task, how many, and with what weight."""

from clarkia.curation.selection.gradients import gradient_features
from clarkia.curation.selection.result import Selection, repetition_counts
from clarkia.curation.selection.select import select
from clarkia.curation.selection.whitened import whitened_distance, whitened_features

__all__ = ["Selection", "gradient_features", "repetition_counts", "select", "whitened_distance", "whitened_features"]
