"""Batches of a training: every image once an epoch, in an order and with random numbers that the seed and the epoch decide.

Importing this module imports torch, so it is imported where a training starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, default_collate, get_worker_info

from visionloop.core import texts
from visionloop.training.pytorch.failures import picklable
from visionloop.training.pytorch.ranks import ALONE, Member, this_process
from visionloop.training.pytorch.seeding import seed, seed_of


def parts(total: int, largest: int) -> list[int]:
    """Sizes of the fewest parts of at most ``largest``, as equal as can be: 17 in parts of 16 are 9 and 8.

    A batch of one image would have no variance for a batch normalisation, and a last one left out would be images left out.
    """
    return shares(total, -(-total // largest))


def shares(total: int, count: int) -> list[int]:
    """Sizes of ``count`` parts, as equal as can be; some are 0 where there are fewer images than parts."""
    return [total // count + (number < total % count) for number in range(count)]


class BatchOrder(Sampler[list[int]]):
    """The indices of this process's share of each batch of an epoch, but for those without an image.

    Attributes:
        epoch: The epoch, 1-based; decides the order.
        done: How many of its steps are passed over, because they are done.
        steps: For each optimizer step the sizes of its batches: one, or several where less fits into memory at once.
    """

    def __init__(self, images: int, effective: int, batch: int, seed: int, member: Member = ALONE) -> None:
        """``effective`` images make a step, in batches of at most ``batch``, which the processes of a training share."""
        self.images, self.seed, self.epoch, self.done, self._member = images, seed, 1, 0, member
        self.steps = [parts(size, batch) for size in parts(images, effective)]

    def share(self, size: int) -> int:
        """How many images of a batch of this size are this process's."""
        return shares(size, self._member.world)[self._member.rank]

    def __len__(self) -> int:
        """The number of shares with an image."""
        return sum(self.share(size) > 0 for sizes in self.steps[self.done :] for size in sizes)

    def __iter__(self) -> Iterator[list[int]]:
        """The indices of each share. Within a batch the shares of the processes follow each other in the order of the ranks."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order = torch.randperm(self.images, generator=generator).tolist()
        start = sum(map(sum, self.steps[: self.done]))
        for sizes in self.steps[self.done :]:
            for size in sizes:
                first = start + sum(shares(size, self._member.world)[: self._member.rank])
                if own := order[first : first + self.share(size)]:
                    yield own
                start += size


@dataclass(frozen=True)
class _Failed:
    """In place of a batch that another process could not load: the error, and its traceback as text."""

    error: Exception
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> _Failed:
        return cls(picklable(error), texts.traceback(error))


class _Collated(Dataset[Any]):
    """Batches by the indices of their samples."""

    def __init__(self, samples: Any, collate: Callable[[list[Any]], Any]) -> None:
        self._samples, self._collate = samples, collate

    def __getitem__(self, indices: Sequence[int]) -> Any:
        try:
            return self._collate([self._samples[index] for index in indices])
        except Exception as error:
            if get_worker_info() is None:
                raise
            # Torch would make another error of the same class, with the traceback as its text.
            return _Failed.of(error)


class Loader:
    """Batches of samples, loaded by other processes or by this one; either way an error is raised here unchanged."""

    def __init__(
        self,
        samples: Any,
        order: Iterable[Sequence[int]] | int,
        *,
        workers: int = 0,
        pinned: bool = False,
        collate: Callable[[Sequence[Any]], Any] | None = None,
    ) -> None:
        """Prepares the batches.

        Args:
            samples: The images, as a dataset of torch.
            order: The indices of each batch, with a length; or the images of a batch, in the order of the samples.
            workers: Processes that load images.
            pinned: Whether batches lie in pinned memory, which a GPU copies from directly.
            collate: Makes a batch of samples; None is torch's own way.
        """
        batches = BatchSampler(range(len(samples)), order, drop_last=False) if isinstance(order, int) else order
        self._loader: DataLoader[Any] = DataLoader(
            _Collated(samples, collate or default_collate),
            batch_size=None,
            sampler=batches,
            num_workers=workers,
            pin_memory=pinned,
            collate_fn=_as_it_is,
        )

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        """The batches."""
        for batch in self._loader:
            if isinstance(batch, _Failed):
                raise batch.error from RuntimeError(batch.traceback)
            yield batch


def _as_it_is(batch: Any) -> Any:
    return batch


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
    """The batches of each epoch, or this process's share of them."""

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
            pinned: Whether batches lie in pinned memory, which a GPU copies from directly.
            collate: Makes a batch of samples.
        """
        self._order = BatchOrder(images, effective, batch, seed, this_process())
        self._samples = Seeded(samples, seed)
        self._loader = Loader(self._samples, self._order, workers=workers, pinned=pinned, collate=collate)

    @property
    def steps(self) -> list[list[int]]:
        """For each optimizer step of an epoch the sizes of its batches."""
        return self._order.steps

    def share(self, size: int) -> int:
        """How many images of a batch of this size are this process's."""
        return self._order.share(size)

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return sum(map(len, self.steps))

    def of(self, epoch: int, done: int = 0) -> Iterator[Any]:
        """This process's share of each batch of an epoch, 1-based, but for those without an image; behind so many steps."""
        self._order.epoch = self._samples.epoch = epoch
        self._order.done = done
        return iter(self._loader)
