"""What all tests share."""

import signal

# A test run started in the background of a shell inherits an ignored Ctrl-C, and so would every program it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """The file that takes longest first: begun last, it would keep one process busy while the others are done."""
    items.sort(key=lambda item: item.path.name != "test_tutorials.py")
