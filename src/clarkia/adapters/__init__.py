"""Other libraries' data and models at the edges of this one."""

from clarkia.adapters.files import read_table
from clarkia.adapters.frames import from_arrow, to_arrow

__all__ = ["from_arrow", "read_table", "to_arrow"]
