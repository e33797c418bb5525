"""How long a training process waits for the upload of a checkpoint of 100 MB at 50 MB/s: all of it, and during the next epoch.

BENCH_EPOCH_SECONDS is the time that the next epoch takes, BENCH_ROUNDS the number of pairs.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import laptop as machine
import pytest

from visionloop.components.train.uploads import Aside, Upload
from visionloop.core.storage import Prefix, Sent

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
EPOCH_SECONDS = float(os.environ.get("BENCH_EPOCH_SECONDS", "3"))
CHECKPOINT_BYTES = 100_000_000
BYTES_PER_SECOND = 50_000_000


def test_a_checkpoint_is_uploaded_beside_the_next_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The trainer waits from its report until it goes on, and at the end of the next epoch for the upload of this one."""
    upload, prefix = Prefix.upload, machine.file_prefix(tmp_path / "store")
    alive, recorded = (lambda: None), list[Sent]()

    def slow(prefix: Prefix, local: Path, key: str, *_: object) -> Sent:
        began = time.perf_counter()
        sent = upload(prefix, local, key)
        time.sleep(max(0.0, sent.size / BYTES_PER_SECOND - (time.perf_counter() - began)))
        return sent

    monkeypatch.setattr(Prefix, "upload", slow)
    waited: dict[str, list[float]] = {"before": [], "copied": [], "linked": []}
    for number in range(ROUNDS):
        aside = Aside(tmp_path / f"aside-{number}")
        for epoch, way in enumerate(waited):
            file = tmp_path / f"epoch_{epoch}.pt"
            file.write_bytes(os.urandom(CHECKPOINT_BYTES))
            began = time.perf_counter()
            if way == "before":
                prefix.upload(file, file.name)
                waited[way].append(time.perf_counter() - began)
                continue
            sending = Upload(prefix, aside.put(file), file.name, f"epoch {epoch}", recorded.append)
            sending.begin()
            aside_seconds = time.perf_counter() - began
            time.sleep(EPOCH_SECONDS)
            began = time.perf_counter()
            sending.wait(alive)
            sending.check()
            waited[way].append(aside_seconds + time.perf_counter() - began)
    assert [sent.size for sent in recorded] == [CHECKPOINT_BYTES] * 2 * ROUNDS
    medians = {way: statistics.median(seconds) for way, seconds in waited.items()}
    with capsys.disabled():
        print(f"\nwaits for 100 MB at 50 MB/s, next epoch {EPOCH_SECONDS:g} s, medians of {ROUNDS}:")
        for way, seconds in medians.items():
            print(f"  {way}: {seconds:.3f} s, ratio {seconds / medians['before']:.3f}")
