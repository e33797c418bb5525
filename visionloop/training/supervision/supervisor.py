"""Starts the child process, receives its messages, and turns every way in which it can end into a result or an error."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from visionloop.core.errors import Defect, Killed, SickMachine, Terminated, Transient, by_code
from visionloop.core.processes import process_group
from visionloop.training.supervision import channel
from visionloop.training.supervision.child import JobFile

#: Seconds that a child is given between SIGTERM and SIGKILL.
TERMINATE_SECONDS = 10

#: The child's program. Not ``-m``: the package imports the module before it would be run.
START = (
    "import sys; from visionloop.training.supervision.child import main; sys.exit(main(sys.argv[1], int(sys.argv[2])))"
)


#: That of a child that tries a batch.
TRY = (
    "import sys; from visionloop.training.supervision.child import try_batch; "
    "sys.exit(try_batch(sys.argv[1], int(sys.argv[2])))"
)


def supervise_trial(
    job: JobFile, folder: Path, environment: Mapping[str, str], on_batch: Callable[[channel.Batch], None]
) -> channel.Tried:
    """Has a trainer try a batch in a child process; arguments and errors are those of `supervise`."""
    tried = _supervise(job, folder, environment, on_batch=on_batch, program=TRY)
    if not isinstance(tried, channel.Tried):
        raise ended(0)
    return tried


def supervise(
    job: JobFile,
    folder: Path,
    environment: Mapping[str, str],
    *,
    on_batch: Callable[[channel.Batch], None],
    on_epoch: Callable[[channel.Epoch], bool],
    on_images: Callable[[channel.Images], None],
    on_step: Callable[[channel.Step], None] = lambda _: None,
    on_line: Callable[[channel.Line], None] = lambda _: None,
    on_look: Callable[[], None] = lambda: None,
    program: str = START,
) -> channel.Done:
    """Runs a job in a child process to its end.

    Args:
        job: What to train.
        folder: Where the job file is written.
        environment: The child's variables; it holds no key of a store.
        on_batch: Called for each finished batch.
        on_epoch: Called for each finished epoch; returns once the checkpoint is set aside, False to stop.
        on_images: Called with the images that the trainer says it uses.
        on_step: Called for each checkpoint within an epoch; returns once it is set aside.
        on_line: Called with each line of the child's log, where the job asks for them.
        on_look: Called at each message, and every half second without one.
        program: What the child runs, with the job file and its end of the channel as arguments.

    Raises:
        VisionloopError: The child's own error; Killed (137) or Terminated (143) if a signal ended it that the stage did not
            send.
    """
    done = _supervise(
        job,
        folder,
        environment,
        on_batch=on_batch,
        on_epoch=on_epoch,
        on_images=on_images,
        on_step=on_step,
        on_line=on_line,
        on_look=on_look,
        program=program,
    )
    if not isinstance(done, channel.Done):
        raise ended(0)
    return done


def _supervise(
    job: JobFile,
    folder: Path,
    environment: Mapping[str, str],
    *,
    on_batch: Callable[[channel.Batch], None],
    program: str,
    on_epoch: Callable[[channel.Epoch], bool] = lambda _: False,
    on_images: Callable[[channel.Images], None] = lambda _: None,
    on_step: Callable[[channel.Step], None] = lambda _: None,
    on_line: Callable[[channel.Line], None] = lambda _: None,
    on_look: Callable[[], None] = lambda: None,
) -> channel.Done | channel.Tried:
    job_file = folder / "job.json"
    job_file.write_bytes(msgspec.json.encode(job))
    failed: channel.Failed | None = None
    done: channel.Done | channel.Tried | None = None
    with _child(job_file, environment, program) as (process, end):
        for line in end.lines(0.5):
            if failed is None:
                on_look()
            if line is None:
                if process.poll() is not None:
                    break
                continue
            match channel.decode(line):
                case channel.Batch() as batch:
                    on_batch(batch)
                case channel.Images() as images:
                    on_images(images)
                case channel.Epoch() as epoch:
                    proceed = on_epoch(epoch)
                    with contextlib.suppress(BrokenPipeError):
                        end.send(channel.Answer(proceed))
                case channel.Step() as step:
                    on_step(step)
                    with contextlib.suppress(BrokenPipeError):
                        end.send(channel.Answer(True))
                case channel.Line() as text:
                    on_line(text)
                case channel.Failed() as failed:
                    pass
                case channel.Done() | channel.Tried() as done:
                    pass
        code = process.wait()
    if failed is not None:
        raise _reported_error(failed)
    if done is None or code != 0:
        raise ended(code)
    return done


@contextlib.contextmanager
def _child(
    job_file: Path, environment: Mapping[str, str], program: str
) -> Iterator[tuple[subprocess.Popen[bytes], channel.Channel]]:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", program, str(job_file), str(theirs.fileno())]
    end = channel.Channel(ours)
    # A group of its own: what the trainer starts ends with the training. Ctrl-C does not reach it: the stage handles that.
    with process_group() as group:
        # The child's output goes where the stage's log goes; stdout is reserved for one line of the stage.
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,
            process_group=group,
        )
        theirs.close()
        try:
            yield process, end
        finally:
            end.close()
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(TERMINATE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _reported_error(failed: channel.Failed) -> Exception:
    error = by_code(failed.exit_code, failed.error_code)(failed.sentence)
    if failed.traceback:
        error.__cause__ = RuntimeError(failed.traceback)
    return error


def ended(code: int) -> Exception:
    """Returns the error of a process that trained and ended without a message, by its code as `subprocess` has it."""
    if code == -signal.SIGKILL:
        return Killed(
            "The training process was killed (SIGKILL), mostly for want of memory; give it more, or lower batch or workers."
        )
    if code == -signal.SIGTERM:
        return Terminated("The training process was ended by SIGTERM that the stage did not send; it is tried again.")
    if code == -signal.SIGBUS:
        return Transient(
            "The training process met a bus error, mostly for want of /dev/shm; give it more shared memory or lower workers."
        )
    if code < 0:
        return SickMachine(
            f"The training process crashed with {signal.Signals(-code).name}; another machine may do better."
        )
    return Defect(f"The training process ended with code {code} and said nothing; please report it with its log.")
