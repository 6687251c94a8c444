"""What the first command costs before and after its training steps."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import experiments.lenet as experiment
from benchmarks.start_child import Clock
from cnnjax.data import Spec
from cnnjax.runtime.compilation import compiler_options, jit
from cnnjax.training import Devices, evaluator
from cnnjax.training.progress import init_progress
from tests.child_process import child
from tests.training_task import Hparams, small_splits, small_task

NOT_NEEDED = (
    "clu", "grain", "IPython", "matplotlib.pyplot", "pandas", "ray", "scipy.stats", "sklearn",
    "tensorflow", "tensorflow_datasets", "torch",
)  # fmt: skip

RUN = """
import importlib.util, json, sys
import jax

import experiments
from cnnjax.command import main

programs = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **about: programs.append(about.get("fun_name"))
    if event == "/jax/core/compile/backend_compile_duration" else None
)
status = main(experiments, [
    "--experiment=lenet", "--config.model=lenet1", "--config.epochs=3",
    f"--data_dir={sys.argv[1]}", f"--workdir={sys.argv[2]}",
])
print(json.dumps({
    "status": status,
    "modules": list(sys.modules),
    "programs": programs,
    "torch": importlib.util.find_spec("torch") is not None,
}))
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The first command, where a library that it does not need can be imported."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "torch.py").write_text("Tensor = None\n")
    finished = child(RUN, folder / "data", folder / "run", PYTHONPATH=str(folder))
    assert finished.returncode == 0, finished.stderr[-2000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["status"] == 0
    return found


def test_it_imports_no_library_that_it_does_not_need(started):
    assert "matplotlib.figure" in started["modules"]  # the report's
    assert not set(NOT_NEEDED) & set(started["modules"])


def test_a_library_hidden_from_another_can_be_imported_afterwards(started):
    assert started["torch"]


def test_it_compiles_a_program_for_each_of_its_functions_and_none_for_single_operations(started):
    """Initial weights, order, step, finiteness, measuring, best; one tries the options."""
    names = sorted(name.removeprefix("jit(").rstrip(")") for name in started["programs"])
    assert names == sorted(
        [
            "<lambda>",
            "_any_rows",
            "all_finite",
            "init_progress",
            "keep_best",
            "outcome",
            "step_on_rows",
        ]
    )


def test_what_is_compiled_quickly_computes_the_same():
    config = experiment.Config(model="lenet1")
    task = experiment.task(config, Spec((8, 8, 1), tuple("0123456789"), 1258))
    start = lambda seed, hparams: init_progress(task, np.zeros((1, 8, 8, 1)), hparams, seed)
    arguments = np.uint32(7), jax.tree.map(np.float32, config.hparams)
    # As jit has it outside of the tests, which turn the optimiser down.
    options = {**(compiler_options() or {}), "xla_backend_optimization_level": 3}
    thorough = jax.jit(start, compiler_options=options)(*arguments)
    quick = jit(start, seldom=True)(*arguments)
    for a, b in zip(jax.tree.leaves(thorough), jax.tree.leaves(quick), strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_splits_are_measured_by_one_program():
    traces = []

    def loss(logits, labels, hparams):
        traces.append(logits.shape)
        return small_task().loss(logits, labels, hparams)

    task = dataclasses.replace(small_task(), loss=loss)
    splits = small_splits(count=100)  # and 30 for validation
    start = jit(lambda seed: init_progress(task, splits["train"]["inputs"], Hparams(), seed))
    variables = start(np.uint32(0)).state.variables
    found = evaluator(task, Devices("single"))(variables, Hparams(), splits)
    assert traces == [(64, 3)]
    assert {name: means["count"] for name, (_, means) in found.items()} == {
        "train": 100,
        "validation": 30,
    }
    assert {len(logits) for logits, _ in found.values()} == {100, 30}


def test_every_moment_counts_for_the_innermost_part():
    clock = Clock()
    clock.add(2.0, 3.0, "import", "numpy")
    clock.add(1.0, 5.0, "import", "jax")
    clock.add(6.0, 6.5, "compile", "step")
    clock.add(5.0, 8.0, "steps")
    clock.add(0.0, 10.0, "the rest")
    assert clock.seconds() == {
        ("the rest", ""): 3.0,
        ("import", "jax"): 3.0,
        ("import", "numpy"): 1.0,
        ("steps", ""): 2.5,
        ("compile", "step"): 0.5,
    }
