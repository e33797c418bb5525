"""How often each image is trained on: a dataset's weight repeats or leaves out images of train, and of no other split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from visionloop.data.annotations.split_rules import fraction


def times(
    names: Sequence[str], datasets: Sequence[str], train: npt.NDArray[np.bool_], weights: Mapping[str, float]
) -> npt.NDArray[np.int32]:
    """How often each image counts, by row.

    An image of train counts as often as its weight's whole part says, and once more where u is below the rest. u is that of
    ``weight:`` and the image's name in its own dataset (``fraction``): it does not follow from the split's, and an image stays
    as a dataset grows.

    Args:
        names: The name of each image in its own dataset.
        datasets: The name of each one's dataset.
        train: Whether train has it.
        weights: The weight of each dataset by name.

    Returns:
        Whole numbers; 0 leaves an image out.
    """
    counts = np.ones(len(names), np.int32)
    for row in np.flatnonzero(train).tolist():
        weight = weights[datasets[row]]
        if weight != 1:
            whole = math.floor(weight)
            counts[row] = whole + (fraction(f"weight:{names[row]}") < weight - whole)
    return counts
