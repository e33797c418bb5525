"""The upload of a checkpoint during the next epoch: the trainer goes on while a thread sends the copy that was set aside."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from visionloop.core.errors import CheckpointUploadFailed, Defect, Transient
from visionloop.core.storage import Prefix, Sent

#: How often a checkpoint's upload is tried, and the seconds before the second try (doubled for each further one).
UPLOAD_TRIES = 3
UPLOAD_BACKOFF_SECONDS = 1.0

#: Seconds that a stage which was asked to end gives the upload under way: with the ends of the child, of the tracker and of the events it
#: has to fit into the grace period of the policy.
GRACE_SECONDS = 20.0

#: How often the waiting stage checks whether an upload is making progress.
LOOK_SECONDS = 0.5


class Aside:
    """A checkpoint set aside, so that the trainer may remove its own file; a link where that is safe, else a copy.

    Trainers write one file an epoch, or the same one again and again. The second kind would change what a link names while it is
    sent, so the first file, and one whose path was reported before, is copied.
    """

    def __init__(self, folder: Path) -> None:
        """``folder`` is made in the same file system as the trainer's files, so that they can be linked."""
        self._folder = folder
        self._reported: set[Path] = set()

    def put(self, file: Path) -> Path:
        """Sets a file aside and returns the new one. Raises Defect if there is none."""
        if not file.is_file():
            raise Defect(f"{file}: the trainer reported this checkpoint, and there is no such file.")
        self._folder.mkdir(exist_ok=True)
        aside, separate = self._folder / file.name, bool(self._reported) and file not in self._reported
        self._reported.add(file)
        aside.unlink(missing_ok=True)
        if separate:
            with contextlib.suppress(OSError):  # another file system, or one without links
                os.link(file.resolve(), aside)
                return aside
        shutil.copyfile(file, aside)
        return aside


class Upload:
    """A checkpoint on its way to the store.

    Attributes:
        begun: Whether something may have been sent or recorded.
        seconds: How long it took; 0 before its end.
    """

    def __init__(self, prefix: Prefix, file: Path, path: str, name: str, record: Callable[[Sent], None]) -> None:
        """Prepares the upload; `begin` starts it.

        Args:
            prefix: The prefix of the training's key.
            file: What `Aside` returned; it is removed at the end.
            path: Where it goes, below the prefix.
            name: What it is of, for the sentence of a failure: ``epoch 3``.
            record: Called in the upload's thread once the file is in the store: makes the checkpoint a durable one.
        """
        self._prefix, self._file, self._path, self._name, self._record = prefix, file, path, name, record
        # Taken before the trainer goes on.
        self._state = _state(file)
        self._ended, self._given_up = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._parts = 0
        self.seconds = 0.0
        self.begun = False

    def begin(self) -> None:
        """Begins. The caller stores the upload before it: a signal may end the stage while the thread starts."""
        self.begun = True
        threading.Thread(target=self._run, name="checkpoint", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether nothing more is sent or recorded."""
        return self._ended.is_set()

    def wait(self, alive: Callable[[], None], seconds: float = threading.TIMEOUT_MAX) -> bool:
        """Waits for the end, at most so many seconds; ``alive`` is called for each part. Returns whether it has ended."""
        until, seen = time.monotonic() + seconds, self._parts
        while not self._ended.wait(max(0.0, min(LOOK_SECONDS, until - time.monotonic()))):
            if time.monotonic() >= until:
                return False
            if self._parts != seen:
                seen = self._parts
                alive()
        return True

    def give_up(self) -> None:
        """Records nothing more, whatever is still sent: as if the process had been killed in the upload."""
        self._given_up.set()

    def check(self) -> None:
        """Raises what ended the upload: CheckpointUploadFailed after the last try, or another error of the store."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        began = time.monotonic()
        try:
            sent = self._send()
            if sent is not None and not self._given_up.is_set():
                self._record(sent)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the stage ends with it
            self._error = error
        finally:
            self.seconds = time.monotonic() - began
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)
            self._ended.set()

    def _send(self) -> Sent | None:
        wait = UPLOAD_BACKOFF_SECONDS
        for attempt in range(1, UPLOAD_TRIES + 1):
            try:
                sent = self._prefix.upload(self._file, self._path, self._sent_part)
                break
            except Transient as error:
                if attempt == UPLOAD_TRIES:
                    raise CheckpointUploadFailed(
                        f"The checkpoint of {self._name} could not be uploaded: {error.sentence}"
                    ) from error
                if self._given_up.wait(wait):
                    return None
                wait *= 2
        if _state(self._file) != self._state:
            raise Defect(
                f"The trainer changed the checkpoint of {self._name} after it had reported it; "
                "it has to write each into a new file, or all into one."
            )
        return sent

    def _sent_part(self) -> None:
        self._parts += 1


def _state(file: Path) -> tuple[int, int]:
    """What changes whenever a file's bytes do."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns
