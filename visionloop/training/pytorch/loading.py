"""Batches of a training: every image once an epoch, in an order and with random numbers that the seed and the epoch decide.

Importing this module imports torch, so it is imported where a training starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from visionloop.training.pytorch.seeding import seed, seed_of


def parts(total: int, largest: int) -> list[int]:
    """Sizes of the fewest parts of at most ``largest``, as equal as can be: 17 in parts of 16 are 9 and 8.

    A batch of one image would have no variance for a batch normalisation, and a last one left out would be images left out.
    """
    count = -(-total // largest)
    return [total // count + (number < total % count) for number in range(count)]


class BatchOrder(Sampler[list[int]]):
    """The indices of each batch of an epoch.

    Attributes:
        epoch: The epoch, 1-based; decides the order.
        steps: For each optimizer step the sizes of its batches: one, or several where less fits into memory at once.
    """

    def __init__(self, images: int, effective: int, batch: int, seed: int) -> None:
        """``effective`` images make a step, in batches of at most ``batch``."""
        self.images, self.seed, self.epoch = images, seed, 1
        self.steps = [parts(size, batch) for size in parts(images, effective)]

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return sum(map(len, self.steps))

    def __iter__(self) -> Iterator[list[int]]:
        """The indices of each batch."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order = torch.randperm(self.images, generator=generator).tolist()
        start = 0
        for sizes in self.steps:
            for size in sizes:
                yield order[start : start + size]
                start += size


class Seeded(Dataset[Any]):
    """Images with random numbers of their own, whichever process loads them.

    Attributes:
        epoch: The epoch, 1-based.
    """

    def __init__(self, samples: Dataset[Any], seed: int) -> None:
        """``seed`` is the training's."""
        self.samples, self.seed, self.epoch = samples, seed, 1

    def __getitem__(self, index: int) -> Any:
        """An image, with random numbers of its own."""
        seed(self.seed, self.epoch, index)
        return self.samples[index]


class TrainingBatches:
    """The batches of each epoch."""

    def __init__(
        self,
        samples: Dataset[Any],
        *,
        images: int,
        effective: int,
        batch: int,
        seed: int,
        workers: int,
        pinned: bool,
        collate: Callable[[Sequence[Any]], Any] | None = None,
    ) -> None:
        """Prepares the batches.

        Args:
            samples: The images, which draw from the global random numbers what they need.
            images: How many there are.
            effective: Images of an optimizer step.
            batch: The most images of a batch.
            seed: The training's seed.
            workers: Processes that load images; their number changes no result.
            pinned: Whether batches lie in memory from which a GPU can read.
            collate: Makes a batch of samples.
        """
        self._order = BatchOrder(images, effective, batch, seed)
        self._samples = Seeded(samples, seed)
        self._loader = DataLoader(
            self._samples, batch_sampler=self._order, num_workers=workers, pin_memory=pinned, collate_fn=collate
        )

    @property
    def steps(self) -> list[list[int]]:
        """For each optimizer step of an epoch the sizes of its batches."""
        return self._order.steps

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return len(self._order)

    def of(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch, 1-based."""
        self._order.epoch = self._samples.epoch = epoch
        return iter(self._loader)
