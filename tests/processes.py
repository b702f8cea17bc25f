"""Processes that tests start as a user's terminal would."""

import signal


def take_interrupts() -> None:
    """In a child: Ctrl-C as a terminal gives it. What a shell starts in the background ignores it, and so would we."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
