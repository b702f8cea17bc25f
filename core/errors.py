"""The exception whose message is written for the user."""


class UserError(Exception):
    """Something the user can fix: one line that says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
