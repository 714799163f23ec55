"""Rules between the columns of a table: how they are written, checked, and built into what is coded."""

from clarkia.codecs.constraints.encoding import RuleEncoding
from clarkia.codecs.constraints.grammar import parse_rule, parse_rules, parse_terms
from clarkia.codecs.constraints.rules import Bound, IfThen, Linked, Ordered, Rule, Sum, Where, kept
from clarkia.codecs.constraints.serial import from_files, to_files

__all__ = [
    "Bound",
    "IfThen",
    "Linked",
    "Ordered",
    "Rule",
    "RuleEncoding",
    "Sum",
    "Where",
    "from_files",
    "kept",
    "parse_rule",
    "parse_rules",
    "parse_terms",
    "to_files",
]
