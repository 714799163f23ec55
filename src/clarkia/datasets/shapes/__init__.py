"""Coloured shapes: pictures and captions without end, their exact law, and a judge that makes no errors."""

from .dataset import EMPTY_TOKEN, ColouredShapes, Example, caption, draw
from .grammar import COLOURS, RELATIONS, SHAPES, SIZES, Caption, Phrase, contradicts, negatives, parse
from .judge import LENIENT, STRICT, Judge
from .laws import LEVELS, Law, Level, default_law
from .report import FIGURES, Rate, level_of, report
from .scatter import scatter
from .scenes import Scene, Scenes, Thing, stack
from .vocabulary import MAX_WORDS, WORDS, claims, texts

__all__ = [
    "COLOURS",
    "EMPTY_TOKEN",
    "FIGURES",
    "LENIENT",
    "LEVELS",
    "MAX_WORDS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "STRICT",
    "WORDS",
    "Caption",
    "ColouredShapes",
    "Example",
    "Judge",
    "Law",
    "Level",
    "Phrase",
    "Rate",
    "Scene",
    "Scenes",
    "Thing",
    "caption",
    "claims",
    "contradicts",
    "default_law",
    "draw",
    "level_of",
    "negatives",
    "parse",
    "report",
    "scatter",
    "stack",
    "texts",
]
