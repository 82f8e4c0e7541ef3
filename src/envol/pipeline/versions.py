"""Hashes of what a slot reads, for all slots of a node at once.

A slot's inputs hash is a sum over the windows that it reads, so that the sums of any ranges are differences
of prefix sums: planning a million windows takes a few array operations. Numbers are mixed by the finaliser
of SplitMix64 (Steele, Lea, Flood, 2014) before they are added; all arithmetic is modulo 2^64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from envol.project.fingerprint import digest

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]


def signed(hexadecimal: str) -> int:
    """The first 64 bits of a hash written in hex, as the database keeps them."""
    number = int(hexadecimal[:16], 16)
    return number - (1 << 64) if number >= 1 << 63 else number


def window_tokens(starts: Integers, versions: Integers) -> Hashes:
    """A number for each window that tells which content it has."""
    return _mixed(versions.view(np.uint64) + _mixed(starts.view(np.uint64)))


def inputs_hashes(slots: int, reads: Sequence[tuple[str, Hashes, Integers, Integers]]) -> Integers:
    """For each of so many slots the hash of what it reads.

    Args:
        slots: how many there are.
        reads: by input its name, its windows' tokens, and for each slot the range [first, last) of them.
    """
    total = np.zeros(slots, np.uint64)
    for name, tokens, first, last in reads:
        sums = np.zeros(len(tokens) + 1, np.uint64)
        np.cumsum(tokens, out=sums[1:])
        total += _mixed(sums[last] - sums[first] + _name_number(name))
    return total.view(np.int64)


def _name_number(name: str) -> np.uint64:
    return np.uint64(int(digest(name), 16))


def _mixed(numbers: Hashes) -> Hashes:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
