"""How a user's mistake at the command line is answered."""

import experiments
from cnnjax.command_line import main


def refused(capsys, *argv) -> str:
    """The message for a mistake: status 2, one line, no traceback."""
    assert main(experiments, list(map(str, argv))) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err
