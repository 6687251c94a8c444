"""The exceptions that stand for a mistake of the user's, and words for their messages."""


class UserError(ValueError):
    """Bad input: one line that names what was found, where, and what would be right.

    The command line prints its message without a traceback and exits with status 2.
    """


class ArgumentError(UserError):
    """A value that an argument cannot have: ``argument=value: what is wrong with it``.

    The command line, where arguments are flags, writes two dashes before it.
    """

    def __init__(self, argument: str, value: object, what: str):
        super().__init__(f"{argument}={value}: {what}")


def system_reason(error: OSError, place: object = None) -> str:
    """What the system says, on one line, after the file it is about or else ``place``."""
    place = error.filename or place
    return f"{f'{place}: ' if place else ''}{error.strerror or reason(error)}"


def reason(error: BaseException) -> str:
    """What ``error`` says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
