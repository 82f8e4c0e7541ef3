"""Random numbers that can be repeated, and a bound on native threads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

LARGEST_SEED = 2**32 - 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed `random` and NumPy's legacy generator, and put both back as they were."""
    python, legacy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % (LARGEST_SEED + 1))
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


def limited(threads: int | None) -> Any:
    """A context in which BLAS and OpenMP use at most so many threads; any number when None."""
    if threads is None:
        return nullcontext()
    import sklearn.ensemble  # noqa: F401  limits reach only libraries that are loaded already
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=threads)
