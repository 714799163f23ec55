"""Benchmarks of fitted models: can it count, does it understand what it draws, what does each setting trade?"""

from clarkia.bench.blending import BlendingReport, blending
from clarkia.bench.counting import Counted, CountingReport, count, counting, counting_captions
from clarkia.bench.editing import EditingReport, editing
from clarkia.bench.filtering import FilteringReport, filtering
from clarkia.bench.generators import Draw, best_of, drawn_by, miscount, steered
from clarkia.bench.matching import MatchingReport, matching
from clarkia.bench.pareto import ParetoReport, pareto, pareto_of_model
from clarkia.bench.refinements import REFINEMENTS, refine, refined_captions
from clarkia.bench.self_bench import SelfBenchReport, self_bench

__all__ = [
    "REFINEMENTS",
    "BlendingReport",
    "Counted",
    "CountingReport",
    "Draw",
    "EditingReport",
    "FilteringReport",
    "MatchingReport",
    "ParetoReport",
    "SelfBenchReport",
    "best_of",
    "blending",
    "count",
    "counting",
    "counting_captions",
    "drawn_by",
    "editing",
    "filtering",
    "matching",
    "miscount",
    "pareto",
    "pareto_of_model",
    "refine",
    "refined_captions",
    "self_bench",
    "steered",
]
