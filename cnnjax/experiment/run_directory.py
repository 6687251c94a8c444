"""The files of one run: what it was asked, what it measured, what came out.

config.json       everything needed to run it again: config, argv, versions, source revision,
                  devices, and the checksum of the data
metrics.jsonl     one row per epoch
checkpoints/      the whole state, for resuming
model.safetensors the selected parameters, by path ("C1/kernel")
vocabulary.txt    of sentences: the word of every id, one a line
predictions.npz   labels int32[N] and logits float32[N, K] of the test split
result.json       the figures, written last: a run is finished when it is there
events.out.*      TensorBoard
report/           pictures
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import load_file, save_file

from cnnjax import config
from cnnjax.errors import UserError
from cnnjax.experiment.directory import Directory
from cnnjax.files.durable import sha256, write_json, write_text
from cnnjax.runtime import processes

METRICS = "metrics.jsonl"


def default_path(experiment: str, settings: config.Config) -> Path:
    """``runs/EXPERIMENT-DIGEST``: the same configuration finds its own run again."""
    text = json.dumps(config.to_dict(settings), sort_keys=True)
    return Path("runs") / f"{experiment}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class RunDirectory(Directory):
    """A run's files, at ``path``.

    Of several processes all make the same calls, and the leader alone reads and writes; only it
    needs the folder.
    """

    fields: ClassVar = {
        "config.json": {"experiment": str, "config": dict},
        "result.json": {"test": dict, "data": dict, "model_sha256": str},
    }

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """Where pictures lie."""
        return self.path / "report"

    @property
    def vocabulary(self) -> Path:
        """The words of a model of sentences."""
        return self.path / "vocabulary.txt"

    def check(self, experiment: str, settings: config.Config) -> None:
        """Check that the directory is free for this run, or holds it already; writes nothing.

        Raises:
            UserError: it holds files that are no run, or a run of another experiment or
                configuration (named field by field).
        """
        processes.from_leader(lambda: self._check(experiment, settings))

    def _check(self, experiment: str, settings: config.Config) -> None:
        if not self.is_used("config.json", "run"):
            return
        stored = self.read("config.json")
        if stored["experiment"] != experiment:
            raise self.refused(
                f"holds a run of the experiment {stored['experiment']}, not of {experiment}; name "
                f"another folder"
            )
        changed = config.differences(settings, stored["config"])
        if changed:
            raise self.refused(
                f"holds a run with another configuration: {'; '.join(changed)}; name another "
                f"folder, or repeat that configuration"
            )

    @contextlib.contextmanager
    def open(
        self,
        experiment: str,
        settings: config.Config,
        argv: Sequence[str],
        provenance: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> Iterator[None]:
        """Hold the directory for this process; record a new run in it, or go on with the old one.

        Args:
            experiment: the name of what is run.
            settings: its configuration.
            argv: how it was asked for.
            provenance: on what the result's bits depend beside ``settings``: "data" and, of
                weights from elsewhere, "initial" (each with its "sha256"), "devices", "source" and
                "versions".
            say: is warned where they are no longer those that the run began with.

        Raises:
            UserError: as :meth:`check`; also if it cannot be written, another process holds it, or
                the run began on other data or from other weights.
        """

        def begin() -> None:
            self._check(experiment, settings)
            held.enter_context(self.hold())
            path = self.path / "config.json"
            if path.exists():
                self._compare(self.read("config.json"), provenance, say)
            else:
                described = {"experiment": experiment, "config": config.to_dict(settings)}
                write_json(path, {**described, "argv": list(argv), **provenance})

        with contextlib.ExitStack() as held:
            processes.from_leader(begin)
            yield

    def _compare(
        self, began: Mapping[str, Any], now: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        """Refuse other data than the run began with; warn of other versions, source or devices."""
        before, after = config.flatten(began), config.flatten(now)
        for what, words in (("data", "on other data"), ("initial", "from other initial weights")):
            ours, theirs = after.get(f"{what}.sha256"), before.get(f"{what}.sha256")
            if ours != theirs:
                raise self.refused(
                    f"holds a run {words} (SHA-256 {str(ours)[:12]} now and {str(theirs)[:12]} "
                    f"there); give it the same, or name another folder"
                )
        changed = [
            f"{name} is {value} now and was {before.get(name)}"
            for name, value in after.items()
            if before.get(name) != value
        ]
        if changed:
            say(
                f"warning: {'; '.join(changed)}: the result may not be, to the last bit, that of "
                f"an uninterrupted run"
            )

    def finished(self) -> bool:
        """Whether the run has its result."""
        return processes.from_leader((self.path / "result.json").exists)

    def result(self) -> dict[str, Any]:
        """The content of result.json.

        Raises:
            UserError: the run is not finished, or the file is damaged.
        """
        if not self.finished():
            raise UserError(f"{self.path}: holds no finished run; train it first")
        return processes.from_leader(lambda: self.read("result.json"))

    def finish(
        self,
        result: Mapping[str, Any],
        model: Mapping[str, np.ndarray],
        predictions: Mapping[str, Any],
        vocabulary: Sequence[str] = (),
    ) -> None:
        """Write what came out; result.json, which says that the run is finished, last.

        Args:
            result: the content of result.json, but for the checksums of the other files.
            model: path -> array of every variable.
            predictions: the content of predictions.npz.
            vocabulary: of a model of sentences.
        """

        def write() -> None:
            np.savez(self.path / "predictions.npz", **predictions)
            temporary = self._model.with_name(self._model.name + ".tmp")
            settings = {"config": json.dumps(self.read("config.json")["config"])}
            save_file(dict(model), temporary, metadata=settings)
            temporary.replace(self._model)
            content = {**result, "data": dict(result["data"]), "model_sha256": sha256(self._model)}
            if vocabulary:
                write_text(self.vocabulary, "".join(f"{word}\n" for word in vocabulary))
                content["data"]["vocabulary_sha256"] = sha256(self.vocabulary)
            write_json(self.path / "result.json", content)

        processes.from_leader(write)

    def model(self) -> dict[str, np.ndarray]:
        """Path -> array of every variable of the finished run's model.

        Raises:
            UserError: there is no finished run, or its model file is damaged.
        """
        _require_whole(self._model, self.result()["model_sha256"])
        return load_file(self._model)

    def words(self) -> tuple[str, ...]:
        """The vocabulary of the finished run's model of sentences; empty of other models.

        Raises:
            UserError: there is no finished run, or its file of words is damaged.
        """
        digest = self.result()["data"].get("vocabulary_sha256")
        if digest is None:
            return ()
        _require_whole(self.vocabulary, digest)
        return tuple(self.vocabulary.read_text(encoding="utf-8").splitlines())

    def keep_rows(self, step: int) -> list[dict[str, Any]]:
        """Drop the rows after ``step``, which a resumed run will write again; return the others."""
        rows = [row for row in self.rows(METRICS) if row["step"] <= step]
        path = self.path / METRICS
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    @property
    def _model(self) -> Path:
        return self.path / "model.safetensors"


def _require_whole(path: Path, digest: str) -> None:
    if not path.exists() or sha256(path) != digest:
        raise UserError(f"{path}: is missing or damaged (its checksum is not that of the result)")
