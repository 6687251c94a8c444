"""The README is true: its code runs, its tables are those of the result files."""

import re
from pathlib import Path

from benchmarks import tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
BASH = re.findall(r"```bash\n(.*?)```", README, re.S)


def test_code_runs(capsys):
    """The blocks, one after the other as a reader would type them."""
    names = {"__name__": "readme"}
    for code in PYTHON:
        exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    measured, *swept = re.findall(r"'accuracy': ([\d.]+)|finished ([\d.]+)", printed)
    assert float(measured[0]) > 0.8
    assert len(swept) == 9
    assert max(float(accuracy) for _, accuracy in swept) > 0.8


def test_there_is_code():
    assert len(PYTHON) == 4


def test_tables_are_generated_from_the_result_files():
    for path in tables.READMES:
        assert tables.render(path.read_text()) == path.read_text(), path
    for network in ("digits, modern", "LeNet-5, distortions", "Net-5", "ReLU, dropout"):
        assert f"| {network} |" in README
    assert "| LeNet-5 | 512 |" in README


def test_every_flag_named_is_a_flag(capsys):
    import experiments
    from cnnjax.command import main

    known = {}
    for block in BASH:
        for line in block.replace("\\\n", " ").splitlines():
            if "launch.py" not in line:
                continue
            name = re.search(r"--experiment=(\w+)|$", line)[1] or "lenet"
            if name not in known:
                assert main(experiments, [f"--experiment={name}", "--help"]) == 0
                known[name] = set(re.findall(r"--([\w.]+)", capsys.readouterr().out))
            named = set(re.findall(r"--([\w.]+)", line.partition("launch.py")[2]))
            assert named <= known[name] | {"experiment", "help"}, line


def test_pictures_exist():
    for readme in tables.READMES:
        for path in re.findall(r"!\[.*?\]\((.*?)\)", readme.read_text()):
            assert (readme.parent / path).stat().st_size > 1000
