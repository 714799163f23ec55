"""clarkia methods: what is implemented, from which paper, and what proves it."""

from dataclasses import asdict
from itertools import groupby
from typing import Annotated

import typer

from .terminal import say


def methods(
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print everything as JSON.")] = False,
) -> None:
    """List the methods of the library, with their papers and proofs."""
    from ..cite import METHODS

    if json:
        from json import dumps

        say(dumps([asdict(method) for method in METHODS], indent=2, ensure_ascii=False))
        return
    for paper, group in groupby(METHODS, key=str):
        say(paper, "bold")
        for method in group:
            say(f"  {method.kind:<13} {method.public_name}")
            for word, place in (("proof", method.proof), ("figure", method.figure)):
                if place:
                    say(f"  {'':<13} {word}: {place}", "dim")
        say()
