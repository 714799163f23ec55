"""Losses: from a denoiser, a process and clean data to a loss a row, and the evidence lower bound."""

from clarkia.objectives.mixed import MixedDenoising

__all__ = ["MixedDenoising"]
