"""The one exception that is meant for people."""


class UserError(Exception):
    """Something the user can mend: one line that says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
