"""What all tests share."""

import signal

# A test run started in the background of a shell inherits an ignored Ctrl-C, and so would every program it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
