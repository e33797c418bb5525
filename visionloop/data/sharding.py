"""Which images belong to which shard: by the hash of the file name, so that a name's shard is the same in every dataset."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def shard_numbers(file_names: pa.ChunkedArray, count: int) -> npt.NDArray[np.int64]:
    """The shard of each image, from 1 to ``count``.

    Args:
        file_names: The images' file names.
        count: The number of shards.
    """
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in file_names.to_pylist())
    return (np.frombuffer(digests, ">u8") % np.uint64(count)).astype(np.int64) + 1


def rows_of_shard(file_names: pa.ChunkedArray, number: int, count: int) -> npt.NDArray[np.int64]:
    """The rows of the images of one shard, in ascending order; arguments as those of ``shard_numbers``."""
    return np.flatnonzero(shard_numbers(file_names, count) == number)
