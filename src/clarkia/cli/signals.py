"""Being told to stop: Ctrl-C, and the signals of a system that shuts down."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Interrupted(Exception):  # noqa: N818  # not an error, as KeyboardInterrupt is none
    """The user stopped a verb; the message says what was kept."""


class Lost(Exception):  # noqa: N818  # the name says what happened
    """A process that worked together with this one is gone; the message says what was kept."""


@dataclass
class Stop:
    """What stopped the program.

    Attributes:
        status: the exit status that tells it, 128 and the number of the signal.
    """

    status: int = 128 + signal.SIGINT


@contextmanager
def termination_as_interrupt() -> Iterator[Stop]:
    """Within the block SIGTERM and SIGHUP do what Ctrl-C does: whoever handles that one handles all of them.

    Outside the main thread nothing is changed; a signal that is ignored (nohup) stays ignored.

    Yields:
        What stopped the program, once something has.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        stop.status = 128 + number
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, interrupt)
    try:
        yield stop
    finally:
        for number in caught:
            signal.signal(number, before[number])


@contextmanager
def keeping(kept: str) -> Iterator[None]:
    """Say what was kept when the user stops the block.

    Args:
        kept: the rest of a sentence that begins with "Stopped:".

    Raises:
        Interrupted: in place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise Interrupted(kept) from interrupt
