"""Near duplicates: which pictures look alike, and which pairs of hashes are found among many."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from visionloop.data.annotations import near
from visionloop.data.appearance import appearance

TRAIN, VAL, TEST = 1, 2, 4


def picture(seed: int, side: int = 200) -> npt.NDArray[np.uint8]:
    """Blurred noise, which has structure at every size."""
    random = np.random.default_rng(seed)
    blurred = cv2.GaussianBlur(random.integers(0, 256, (side, side, 3)).astype(np.uint8), (0, 0), side / 12)
    return np.asarray(cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX), np.uint8)  # type: ignore[call-overload]


def bits(image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> int:
    first, second = appearance(image).hash, appearance(other).hash
    assert first is not None
    assert second is not None
    return (first ^ second).bit_count()


def test_a_picture_saved_again_or_shrunk_looks_alike_and_another_one_does_not() -> None:
    whole = picture(0)
    encoded = cv2.imdecode(cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
    assert encoded is not None
    assert bits(whole, np.asarray(encoded, np.uint8)) <= 4
    assert bits(whole, np.asarray(cv2.resize(whole, (90, 90), interpolation=cv2.INTER_AREA), np.uint8)) <= 4
    assert min(bits(whole, picture(seed)) for seed in range(1, 20)) > 8


def test_a_picture_without_structure_has_no_hash() -> None:
    flat = np.full((40, 60, 3), (10, 20, 30), np.uint8)
    assert appearance(flat).hash is None
    assert appearance(flat).spread == 0
    assert appearance(flat).brightness == pytest.approx(0.114 * 10 + 0.587 * 20 + 0.299 * 30)
    flat[3, 4, 1] = 25
    assert (appearance(flat).hash, appearance(flat).spread) == (None, 5)


def by_brute_force(hashes: npt.NDArray[np.uint64], masks: npt.NDArray[np.uint8], distance: int) -> int:
    pairs = itertools.combinations(range(len(hashes)), 2)
    return sum(
        not masks[entry] & masks[other] and (int(hashes[entry]) ^ int(hashes[other])).bit_count() <= distance
        for entry, other in pairs
    )


@pytest.mark.parametrize("distance", range(8))
def test_every_pair_is_counted_once(distance: int) -> None:
    random = np.random.default_rng(distance)
    hashes = random.integers(0, 2**64, 40, np.uint64)[random.integers(0, 40, 400)]
    for _ in range(4):
        hashes = hashes ^ (random.integers(0, 2, 400, np.uint64) << random.integers(0, 64, 400, np.uint64))
    masks = random.choice(np.array([TRAIN, VAL, TEST, VAL + TEST], np.uint8), 400)
    result = near.near_pairs(hashes, np.arange(400), masks, distance)
    assert result.total == by_brute_force(hashes, masks, distance)
    assert result.whole
    assert len(result.listed) == min(result.total, near.LISTED)
    assert [pair[0] for pair in result.listed] == sorted(pair[0] for pair in result.listed)
    for differing, entry, other in result.listed:
        assert (int(hashes[entry]) ^ int(hashes[other])).bit_count() == differing
        assert not masks[entry] & masks[other]


def test_thousands_of_equal_pictures_are_counted_and_a_thousand_pairs_listed() -> None:
    hashes = np.full(20_000, 7, np.uint64)
    masks = np.array([TRAIN] * 15_000 + [TEST] * 5_000, np.uint8)
    result = near.near_pairs(hashes, np.arange(20_000), masks, 4)
    assert (result.total, len(result.listed), result.whole) == (75_000_000, near.LISTED, True)


def test_a_search_that_would_never_end_says_that_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MOST_COMPARED", 1000)
    monkeypatch.setattr(near, "AT_ONCE", 100)
    hashes = np.arange(2_000, dtype=np.uint64)
    masks = np.array([TRAIN, TEST] * 1_000, np.uint8)
    result = near.near_pairs(hashes, np.arange(2_000), masks, 1)
    assert not result.whole
    assert result.total < by_brute_force(hashes, masks, 1)


def test_images_of_one_split_are_not_compared() -> None:
    hashes = np.zeros(3, np.uint64)
    assert near.near_pairs(hashes, np.arange(3), np.array([VAL + TEST, VAL, TEST], np.uint8), 4).total == 1
    assert near.near_pairs(hashes[:0], np.arange(0), np.zeros(0, np.uint8), 4).total == 0
