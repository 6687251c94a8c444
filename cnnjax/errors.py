"""The one exception that stands for a mistake of the user's, and words for its message."""


class UserError(ValueError):
    """Bad input: one line that names what was found, where, and what would be right.

    The command line prints its message without a traceback and exits with status 2.
    """


def system_reason(error: OSError, place: object = None) -> str:
    """What the system says, on one line, after the file it is about or else ``place``."""
    place = error.filename or place
    return f"{f'{place}: ' if place else ''}{error.strerror or reason(error)}"


def reason(error: BaseException) -> str:
    """What ``error`` says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
