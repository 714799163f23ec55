"""Does a generator repeat its training rows? Distances to them next to those of held-out rows."""

from clarkia.measures.memorisation.cells import CopyTest, copy_test
from clarkia.measures.memorisation.membership import MembershipGap, membership_gap
from clarkia.measures.memorisation.report import Memorisation, Rate, memorisation
from clarkia.measures.memorisation.texts import SpanCopies, longest_shared_spans, span_copies

__all__ = [
    "CopyTest",
    "MembershipGap",
    "Memorisation",
    "Rate",
    "SpanCopies",
    "copy_test",
    "longest_shared_spans",
    "membership_gap",
    "memorisation",
    "span_copies",
]
