"""The README is true: its code runs, its tables are those of the result files."""

import re
from pathlib import Path

import pytest

from benchmarks import tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
BASH = re.findall(r"```bash\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_code_runs(code, capsys):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    if "measure(" in code:
        assert float(re.search(r"'accuracy': ([\d.]+)", printed)[1]) > 0.8


def test_there_is_code():
    assert len(PYTHON) == 2


def test_tables_are_generated_from_the_result_files():
    for path in tables.READMES:
        assert tables.render(path.read_text()) == path.read_text(), path
    assert "| MNIST, modern |" in README
    assert "| LeNet-5 | 512 |" in README


def test_every_flag_named_is_a_flag(capsys):
    import experiments
    from cnnjax.command_line import main

    assert main(experiments, ["--experiment=lenet", "--help"]) == 0
    known = set(re.findall(r"--([\w.]+)", capsys.readouterr().out)) | {"experiment", "help"}
    for block in BASH:
        for line in block.splitlines():
            if "launch.py" in line:
                named = set(re.findall(r"--([\w.]+)", line.partition("launch.py")[2]))
                assert named <= known, line


def test_pictures_exist():
    for readme in tables.READMES:
        for path in re.findall(r"!\[.*?\]\((.*?)\)", readme.read_text()):
            assert (readme.parent / path).stat().st_size > 1000
