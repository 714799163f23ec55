"""Ctrl-C, and the request to end that a scheduler sends, wait for the end of a step."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupt:
    """The signal that asked for an end.

    Attributes:
        number: of the signal; 0 while nobody asked.
    """

    number = 0


@contextmanager
def deferred_interrupt(*, grace: float = 0.0) -> Iterator[Interrupt]:
    """Within the block the first Ctrl-C or SIGTERM is only noted down; a second one acts at once.

    Outside the main thread, or where the program handles a signal itself, nothing is changed for it.

    Args:
        grace: seconds after the first in which a second one is taken for an echo; launchers pass on to all their
            processes what the terminal has sent to these already.

    Yields:
        What to look at between two steps.
    """
    asked = Interrupt()
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    in_main = threading.current_thread() is threading.main_thread()
    taken = {number: usual[number] for number in usual if in_main and signal.getsignal(number) == usual[number]}
    first = 0.0

    def remember(number: int, frame: object) -> None:
        nonlocal first
        if asked.number and time.monotonic() - first >= grace:
            signal.signal(number, usual[signal.Signals(number)])
            signal.raise_signal(number)
        elif not asked.number:
            asked.number, first = number, time.monotonic()

    for number in taken:
        signal.signal(number, remember)
    try:
        yield asked
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


def raise_for(number: int) -> None:
    """End as the signal would have ended the program.

    Raises:
        KeyboardInterrupt: for Ctrl-C.
        SystemExit: for any other, with the status that a shell gives it.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
