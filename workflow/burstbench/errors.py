"""Errors that a user can act on."""


class UserError(Exception):
    """A wrong input: its message names the file, the row or key, what was found and what was expected.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """
