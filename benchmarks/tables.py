"""The README's tables, generated from the result files between their markers."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
README = ROOT / "README.md"


def render(readme: str) -> str:
    """``readme`` with every ``<!-- table:NAME -->`` ... ``<!-- end -->`` block made anew."""
    from benchmarks import accuracy

    makers = {"accuracy": accuracy.table}

    def block(match: re.Match) -> str:
        name = match["name"]
        content = json.loads((RESULTS / f"{name}.json").read_text())
        return f"<!-- table:{name} -->\n{makers[name](content)}\n<!-- end -->"

    return re.sub(r"<!-- table:(?P<name>\w+) -->\n.*?<!-- end -->", block, readme, flags=re.S)


def renew() -> None:
    """Write the tables into README.md."""
    README.write_text(render(README.read_text()))
