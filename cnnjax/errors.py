"""The one exception that stands for a mistake of the user's, not of the program's."""


class UserError(ValueError):
    """Bad input: one line that names what was found, where, and what would be right.

    The command line prints its message without a traceback and exits with status 2.
    """
