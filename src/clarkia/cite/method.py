"""What the registry says of one published idea."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One published idea and where it lives.

    Attributes:
        title: of the paper.
        year: in which it first appeared.
        kind: what the idea is here: process, schedule, network, denoiser, objective, solver, grid, guidance, steering,
            conditioning, training, likelihood, diagnostic, oracle, measure, curation, estimator.
        public_name: the dotted name that implements it.
        proof: the test that proves it, as file::function.
        figure: the recorded benchmark that shows its claim, or an empty string.
    """

    title: str
    year: int
    kind: str
    public_name: str
    proof: str
    figure: str = ""

    def __str__(self) -> str:
        return f"{self.title} ({self.year})"
