"""What is wanted of samples: rules and rewards, as options, and as functions that a user's own file holds."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DataError
from .kinds import Kind
from .terminal import fail

STEERING = "To steer"


class Exactness(StrEnum):
    """How constraints and rewards are met."""

    exact = "exact"
    asymptotic = "asymptotic"
    heuristic = "heuristic"


Constraint = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE",
        help='A rule to keep, such as "total = rent + food"; of texts a regular expression; or FILE.py:FUNCTION.',
        rich_help_panel=STEERING,
    ),
]
Maximize = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help='What there should be much of: columns, such as "income - rent", or FILE.py:FUNCTION.',
        rich_help_panel=STEERING,
    ),
]
Minimize = Annotated[
    str | None, typer.Option(metavar="WHAT", help="What there should be little of.", rich_help_panel=STEERING)
]
Strength = Annotated[
    float,
    typer.Option(
        min=0.0,
        metavar="S",
        help="How much: the law is tilted by exp(S WHAT), columns in standard deviations.",
        rich_help_panel=STEERING,
    ),
]
Particles = Annotated[
    int, typer.Option(min=1, metavar="K", help="Draws that compete for each sample.", rich_help_panel=STEERING)
]
HowExact = Annotated[
    Exactness,
    typer.Option(
        help="exact: reject whole draws (rules alone); asymptotic: particles by weight; heuristic: the best of them.",
        rich_help_panel=STEERING,
    ),
]


def wishes(
    kind: Kind,
    constraint: Sequence[str] | None,
    maximize: str | None,
    minimize: str | None,
    strength: float,
    particles: int,
    exactness: Exactness,
) -> dict[str, Any]:
    """The arguments of an estimator's `sample` that the options stand for.

    Args:
        kind: what the model is one of.
        constraint: rules.
        maximize: what there should be much of.
        minimize: what there should be little of.
        strength: how much of it.
        particles: draws a sample.
        exactness: how.

    Raises:
        DataError: both ends at once, an empty rule, or a function that is not there.
    """
    if maximize is not None and minimize is not None:
        raise DataError('--maximize and --minimize are both given; write one, such as --maximize "income - rent"')
    for option, texts in (("--constraint", constraint or ()), ("--maximize", [maximize]), ("--minimize", [minimize])):
        if any(text is not None and not text.strip() for text in texts):
            raise DataError(f"{option} is empty; write what is wanted, or leave it out")
    reward = maximize if maximize is not None else minimize
    found: dict[str, Any] = {"exactness": exactness.value, "num_particles": particles}
    if constraint:
        found["constraints"] = [_rule(text, kind) for text in constraint]
    if reward is not None:
        found["reward"] = _reward(reward, kind)
        found["reward_scale"] = strength if minimize is None else -strength
    return found


@contextmanager
def warnings_told() -> Iterator[None]:
    """Say what is warned of as a sentence, once each."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        fail(message.rstrip("."), word="Warning")


def particles_of(asked: dict[str, Any]) -> int:
    """How many particles each sample is drawn with."""
    steered = ("constraints" in asked or "reward" in asked) and asked["exactness"] != Exactness.exact
    return asked["num_particles"] if steered else 1


def _rule(text: str, kind: Kind) -> Any:
    if _names_function(text):
        return function_of(text)
    if kind is Kind.image:
        raise DataError(f"--constraint {text!r}: name a function of pictures as FILE.py:FUNCTION")
    return text


def _reward(text: str, kind: Kind) -> Any:
    if _names_function(text):
        return function_of(text)
    if kind is not Kind.table:
        raise DataError(f"--maximize or --minimize {text!r}: name a function of {kind.value}s as FILE.py:FUNCTION")
    return text


def _names_function(text: str) -> bool:
    file, colon, name = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and name.isidentifier()


def function_of(text: str) -> Callable[[Any], Any]:
    """A function of a Python file, written FILE.py:FUNCTION; the file is run, and may import what lies beside it.

    Raises:
        DataError: there is no such file or function, or the file fails.
    """
    from importlib.util import module_from_spec, spec_from_file_location

    file, _, name = text.rpartition(":")
    if not Path(file).is_file():
        raise DataError(f"there is no file {file}; check its name")
    # A name of its own, so that a file called torch.py hides nothing; what looks up its own module must find it.
    spec = spec_from_file_location(f"given_{Path(file).stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    sys.path.append(str(Path(file).resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"{file} fails: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise DataError(f"{file} has no function {name}; check its name")
    return found
