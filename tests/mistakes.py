"""How a user's mistake at the command line is answered."""

import experiments
from cnnjax.command import main


def refused(capsys, *argv) -> str:
    """The message for a mistake: status 2, one line, no traceback."""
    return refused_by(experiments, capsys, *argv)


def refused_by(package, capsys, *argv) -> str:
    """The same, where the experiments are those of ``package``."""
    assert main(package, list(map(str, argv))) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err
