"""The files of one sweep.

sweep.json        what was asked: the experiment, the base configuration, every trial's changes
trials.jsonl      one row a trial, as it finishes
summary.csv, summary.md, *.png
                  made from these two, again at any time (``--mode=report``)
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from cnnjax.experiment.directory import Directory
from cnnjax.files.durable import write_json, write_text

DESCRIPTION, TRIALS = "sweep.json", "trials.jsonl"
_SAME = {"experiment": "experiment", "config": "configuration", "trials": "list of trials"}


def default_path(name: str, description: Mapping[str, Any]) -> Path:
    """``runs/EXPERIMENT-sweep-DIGEST``: the same sweep finds its own rows again."""
    text = json.dumps({part: description[part] for part in _SAME}, sort_keys=True)
    return Path("runs") / f"{name}-sweep-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class SweepDirectory(Directory):
    """A sweep's files, at ``path``."""

    fields: ClassVar = {
        DESCRIPTION: {
            "experiment": str,
            "config": dict,
            "trials": list,
            "sweep": list,
            "data": dict,
        }
    }

    def check(self, description: Mapping[str, Any]) -> None:
        """Check that the folder is free for this sweep, or holds it already; writes nothing.

        Raises:
            UserError: it holds other files, or another sweep, or the same on other data.
        """
        if not self.is_used(DESCRIPTION, "sweep"):
            return
        stored, ours = self.read(DESCRIPTION), json.loads(json.dumps(description))
        for part, word in _SAME.items():
            if stored[part] != ours[part]:
                raise self.refused(
                    f"holds a sweep with another {word}; name another folder, or repeat that "
                    f"sweep: {' '.join(stored['sweep'])}"
                )
        if stored["data"] != ours["data"]:
            raise self.refused(
                f"holds a sweep on other data or from other weights (SHA-256 {ours['data']} now "
                f"and {stored['data']} there); give it the same, or name another folder"
            )

    def begin(
        self, description: Mapping[str, Any], say: Callable[[str], None]
    ) -> list[dict[str, Any]]:
        """Record the sweep, and return the rows of it that need not be run again.

        A line that a kill cut short and the rows of failed trials are dropped.

        Args:
            description: the content of sweep.json.
            say: is warned where rows were made by another source or other versions.

        Raises:
            UserError: as :meth:`check`.
        """
        self.check(description)
        write_json(self.path / DESCRIPTION, description)
        rows = [row for row in self.rows(TRIALS) if row["status"] != "failed"]
        write_text(self.path / TRIALS, "".join(json.dumps(row) + "\n" for row in rows))
        for name in ("source", "versions"):
            if any(row[name] != description[name] for row in rows):
                say(
                    f"warning: rows in {self.path / TRIALS} were made by another {name}; "
                    f"the trials' rows say which"
                )
        return rows
