"""How a command ends: by signals, with errors of one line, and with which exit code."""

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import typer
from rich.text import Text

from core.errors import UserError, file_of, system_reason
from core.progress import error_console
from core.terminal import visible

STOPPED = 128 + signal.SIGINT
NO_COMMAND = "Missing command"  # Click's own words, where it does not show the help


def stopping() -> list[int]:
    """Makes SIGTERM, and SIGHUP unless it is ignored (`nohup`), end a command as Ctrl-C does.

    Returns:
        A list that the first of them is put into; later ones leave the command in peace to end.
    """
    stopped_by: list[int] = []

    def stop(number: int, _: Any) -> None:
        if not stopped_by:
            stopped_by.append(number)
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)
    return stopped_by


def unraisable(found: "sys.UnraisableHookArgs") -> None:
    """What Python does with an exception in a destructor, except where that would print a traceback for a user's error.

    A file that is closed by its destructor, as NumPy does after a failed write, fails again on a full disk: that error
    was reported. Ctrl-C there would be lost.
    """
    if isinstance(found.exc_value, KeyboardInterrupt):
        threading.Timer(0.01, signal.raise_signal, (signal.SIGINT,)).start()
    elif found.exc_value is None or not system_reason(found.exc_value):
        sys.__unraisablehook__(found)


def guarded(command: Callable[[], Any], program: str) -> int:
    """Runs a command and gives its exit code. What the user can fix is one line on standard error, and 2.

    Args:
        program: what the command line begins with, for messages.
    """
    from typer.exceptions import TyperException

    try:
        code = command()  # Typer itself turns Ctrl-C into 130
        if code != STOPPED:
            return code if isinstance(code, int) else 0
        message = ""
    except UserError as error:
        message = str(error)
    except TyperException as error:
        context = getattr(error, "ctx", None)  # of the command that the error is about
        wrong = error.format_message().rstrip(".") or NO_COMMAND  # Typer has shown the help
        message = f"{wrong}; see: {context.command_path if context else program} --help"
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # Typer takes it for the end of what a user types
            raise error.__cause__ from None
        message = ""
    except Exception as error:
        reason = system_reason(error)
        if not reason:
            raise
        message = ": ".join(filter(None, (file_of(error), reason)))
    if not message:
        error_console.print("stopped")
        return STOPPED
    error_console.print(Text.assemble(("error:", "red"), " ", visible(" ".join(message.split()))), soft_wrap=True)
    return 2
