"""Reports: every figure with its interval, its floor and its ceiling, for a person to read."""

from clarkia.reports.collection import CollectionReport, collection_report
from clarkia.reports.fronts import plot_front
from clarkia.reports.metric import Metric
from clarkia.reports.report import Report
from clarkia.reports.summary import Finding
from clarkia.reports.table import TableReport, table_report

__all__ = [
    "CollectionReport",
    "Finding",
    "Metric",
    "Report",
    "TableReport",
    "collection_report",
    "plot_front",
    "table_report",
]
