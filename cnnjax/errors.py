"""The one exception that stands for a mistake of the user's, and words for its message."""


class UserError(ValueError):
    """Bad input: one line that names what was found, where, and what would be right.

    The command line prints its message without a traceback and exits with status 2.
    """


def reason(error: BaseException) -> str:
    """What ``error`` says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
