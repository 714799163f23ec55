"""Tables: levels and residuals."""

from clarkia.codecs.table.codec import Column, TableCodec
from clarkia.codecs.table.evidence import Evidence
from clarkia.codecs.table.options import CodingOptions

__all__ = ["CodingOptions", "Column", "Evidence", "TableCodec"]
