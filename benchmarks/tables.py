"""The README's tables, generated from the result files between their markers."""

import functools
import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
READMES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")


def render(readme: str) -> str:
    """``readme`` with every ``<!-- table:NAME -->`` ... ``<!-- end -->`` block made anew."""
    from benchmarks import accuracy, papers, speed_tables, start

    # Table -> its maker and the result file it is made from.
    makers = {
        "accelerator": (speed_tables.accelerator, "accelerator"),
        "accuracy": (accuracy.table, "accuracy"),
        "backbones": (speed_tables.backbones, "backbones"),
        "extractor": (speed_tables.extractor, "extractor"),
        "lenet": (speed_tables.steps, "lenet"),
        "lenet_first_step": (speed_tables.first_steps, "lenet"),
        "sentence": (speed_tables.sentence, "sentence"),
        "start": (start.table, "start"),
        "sweeps": (speed_tables.sweeps, "sweeps"),
        **{name: (functools.partial(papers.table, name), name) for name in papers.PAPERS},
    }

    def block(match: re.Match) -> str:
        name = match["name"]
        make, results = makers[name]
        path = RESULTS / f"{results}.json"
        if not path.exists():  # not measured yet
            return match[0]
        content = json.loads(path.read_text())
        return f"<!-- table:{name} -->\n{make(content)}\n<!-- end -->"

    return re.sub(r"<!-- table:(?P<name>\w+) -->\n.*?<!-- end -->", block, readme, flags=re.S)


def renew() -> None:
    """Write the tables into the READMEs."""
    for path in READMES:
        path.write_text(render(path.read_text()))
