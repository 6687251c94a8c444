"""What all networks share: how they are called, and what they return.

``model(inputs, *, dropout=None) -> (logits, features)``.  ``features`` maps names to activations,
in the order in which they are computed; in training ``dropout`` is a function.
"""

from collections.abc import Callable

import jax

Features = dict[str, jax.Array]
"""Name -> activation [N, ...]."""

Dropout = Callable[..., jax.Array]
"""``(x, site=0) -> x``, as :class:`cnnjax.training.Task` describes it."""
