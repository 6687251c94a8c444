"""Settings of the whole suite.  Several devices are simulated in child processes only."""

import os
from pathlib import Path

import jax
import pytest

# Shapes must match on purpose, never by accident.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it are skipped without it."""
    folder = os.environ.get("CNNJAX_TEST_DATA")
    if not folder:
        pytest.skip("CNNJAX_TEST_DATA does not name a folder of real data sets")
    return Path(folder)
