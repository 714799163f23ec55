"""Other libraries' data and models at the edges of this one."""

from clarkia.adapters.files import read_table
from clarkia.adapters.frames import from_arrow, to_arrow
from clarkia.adapters.images import ImageFolderSource, read_attributes, read_captions
from clarkia.adapters.texts import TextSource

__all__ = [
    "ImageFolderSource",
    "TextSource",
    "from_arrow",
    "read_attributes",
    "read_captions",
    "read_table",
    "to_arrow",
]
