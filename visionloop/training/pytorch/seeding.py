"""Random numbers that depend on the seed and on where they are used, never on what was drawn before.

So no random state is carried from one epoch to the next, and neither a resume nor the number of processes that load images
changes a result.
"""

from __future__ import annotations

import hashlib
import random


def seed_of(*parts: object) -> int:
    """A seed below 2**32 for a use of random numbers, named by its parts: the training's seed, the epoch, the image …"""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:4])


def seed(*parts: object) -> None:
    """Seeds Python's, NumPy's and torch's random numbers by `seed_of`."""
    import numpy
    import torch

    number = seed_of(*parts)
    random.seed(number)
    numpy.random.seed(number)
    torch.manual_seed(number)
