"""All verbs under one name, and the errors of the user turned into sentences."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..errors import DataError
from .bench import bench
from .compare import compare
from .demo import demo
from .errors import sentence
from .fit import fit
from .impute import impute
from .inspect import inspect
from .methods import methods
from .predict import predict
from .report import report
from .sample import sample
from .score import score
from .terminal import fail, say

app = typer.Typer(
    name="clarkia",
    help="Learn a distribution from your own data, then ask it anything.",
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)

_EXAMPLES: dict[Callable[..., None], str] = {
    fit: "clarkia fit adult.csv -o adult.clarkia --target income --max-minutes 5",
    sample: "clarkia sample adult.clarkia -o rich.csv -n 1000 --where \"income = '>50K' and age between 30 and 40\"",
    impute: "clarkia impute adult.clarkia incomplete.csv -o complete.csv",
    predict: "clarkia predict adult.clarkia people.csv --column income -o predicted.csv",
    score: "clarkia score adult.clarkia adult.csv -o scored.csv --top 20",
    report: "clarkia report adult.csv synthetic.csv --holdout adult_test.csv --target income -o report.html",
    compare: "clarkia compare photos generated --holdout more_photos -o compared.html",
    bench: "clarkia bench counting scenes.clarkia -o counted/ --guidance 2 --best-of 4",
    inspect: "clarkia inspect adult.clarkia",
    demo: "clarkia demo",
    methods: "clarkia methods --json",
}
for _verb, _example in _EXAMPLES.items():
    app.command(epilog=f"Example: `{_example}`")(_verb)

# typer's public errors of usage are children of click's, which newer versions of typer carry inside.
_UsageError: Any = typer.BadParameter.__base__


@app.callback(invoke_without_command=True)
def clarkia(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Learn a distribution from your own data, then ask it anything."""
    if version:
        from importlib.metadata import version as installed

        say(f"clarkia {installed('clarkia')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())  # which rich has printed already, in front of this line
        say("Start with:  clarkia demo")


def run(arguments: list[str]) -> int:
    """Run one verb.

    Args:
        arguments: what follows the name of the program.

    Returns:
        The exit status: 0 done, 2 unusable input.
    """
    try:
        invoke(arguments)
    except typer.Exit as stop:
        return stop.exit_code
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "clarkia"
        fail(f"{error.format_message().rstrip('.')}; see {command} --help")
        return 2
    except (DataError, OSError) as error:
        told = sentence(error)
        if told is None:
            raise
        fail(told)
        return 2
    return 0


def invoke(arguments: list[str]) -> None:
    """Run one verb and let its errors through."""
    command = typer.main.get_command(app)
    with command.make_context("clarkia", arguments) as context:
        command.invoke(context)
