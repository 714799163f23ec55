"""Weighted particles over any sampler: what a denoiser's law becomes under a reward, a measurement or a constraint."""

from clarkia.steering.afdps_sde import AnnealedDiffusion, AnnealedLikelihood, MovesAlone, annealed_diffusion
from clarkia.steering.chunks import in_chunks
from clarkia.steering.clusters import first_component_scores, representatives
from clarkia.steering.drafts import Searched, Stages, staged_search
from clarkia.steering.filter import Filter
from clarkia.steering.looks import Foreseen
from clarkia.steering.measurements import annealed, measured
from clarkia.steering.moment import Moment
from clarkia.steering.moves import Move, Plain, Proposed
from clarkia.steering.particles import Particles
from clarkia.steering.potentials import Potential, Rewarded, Twist
from clarkia.steering.resampling import ancestors, effective_size
from clarkia.steering.run import CollapseWarning, run
from clarkia.steering.search import TFG_SPACE, Found, Knob, search
from clarkia.steering.stages import SamplerStages
from clarkia.steering.survivors import survivors

__all__ = [
    "TFG_SPACE",
    "AnnealedDiffusion",
    "AnnealedLikelihood",
    "CollapseWarning",
    "Filter",
    "Foreseen",
    "Found",
    "Knob",
    "Moment",
    "Move",
    "MovesAlone",
    "Particles",
    "Plain",
    "Potential",
    "Proposed",
    "Rewarded",
    "SamplerStages",
    "Searched",
    "Stages",
    "Twist",
    "ancestors",
    "annealed",
    "annealed_diffusion",
    "effective_size",
    "first_component_scores",
    "in_chunks",
    "measured",
    "representatives",
    "run",
    "search",
    "staged_search",
    "survivors",
]
