"""Learn a distribution from your own data, then ask it anything."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

from clarkia.cite import cite
from clarkia.errors import DataError

__version__ = version("clarkia")

_HOMES = {
    "ImageModel": "clarkia.models.image",
    "TextModel": "clarkia.models.text",
    "TableModel": "clarkia.models.table",
    "load": "clarkia.models",
}

__all__ = ["DataError", "ImageModel", "TableModel", "TextModel", "__version__", "cite", "load"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import clarkia` itself costs next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'clarkia' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
