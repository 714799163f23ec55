"""The command line: one thin file a verb."""

import os
import sys
from collections.abc import Sequence

from .app import run
from .signals import Interrupted, Lost, termination_as_interrupt
from .terminal import fail


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the name of the program; those of this process by default.

    Returns:
        The exit status: 0 done; 2 an unusable file, value or argument, told in one sentence on standard error;
        130 stopped by Ctrl-C; 143 stopped by the system; 1 another process that this one worked with is gone. A defect
        of the program raises its exception, which Python shows with a traceback and the exit status 1.
    """
    # Threads that wait for each other in a loop bring training to a crawl wherever another program uses a core as well:
    # fifteen times slower on two shared cores. The variable is read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What torch notes of its own workings, every process its own notes; errors are still told.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with termination_as_interrupt() as stop:
        try:
            return run(sys.argv[1:] if arguments is None else list(arguments))
        except Interrupted as interrupted:
            fail(str(interrupted), word="Stopped")
        except KeyboardInterrupt:
            fail("nothing was written", word="Stopped")
        except Lost as lost:
            fail(str(lost))
            return 1
        return stop.status
