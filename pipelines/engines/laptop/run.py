"""Starts a runner, follows it, and reports how the run ended: with a result, or with the failed stage's own error."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil

from visionloop.components.calls import STAGES_OF
from visionloop.core import live, stop
from visionloop.core.errors import Defect, InvalidConfig, Killed, Terminated, UserStopped, VisionloopError, by_code
from visionloop.core.folders import temporary_folder
from visionloop.core.policy import POLICIES
from visionloop.core.processes import session
from visionloop.core.running import ATTEMPTS_VARIABLE
from visionloop.core.runs import FORCE_VARIABLE, RUN_VARIABLE, Run, RunRecord, now, run_name
from visionloop.core.storage import open_prefix
from visionloop.pipelines.completion import RunResult, completed
from visionloop.pipelines.definitions import PIPELINES
from visionloop.pipelines.engines import Order
from visionloop.pipelines.engines.laptop import containers
from visionloop.pipelines.engines.laptop.begun import CANCEL, begun
from visionloop.pipelines.engines.laptop.display import Display
from visionloop.pipelines.engines.laptop.runner import DOCKER, RUNNERS, SUBPROCESS, Job
from visionloop.pipelines.parameters import SETTINGS, arguments_for, settings_in
from visionloop.pipelines.services.folder import find_folder
from visionloop.pipelines.targets import DEFAULT_TRAINER, laptop
from visionloop.training.configuration import named_trainer

#: The function that makes each pipeline in the runner's process.
MADE_BY = {name: f"visionloop.pipelines.engines.kubeflow.{name}:{name}_pipeline" for name in PIPELINES}

#: Seconds that stages get to end after Ctrl-C (train keeps its best checkpoint so far) before they are killed.
STOP_SECONDS = 60.0

#: Asks a run's containers to end by a signal, and kills them after so many seconds.
Stop = Callable[[signal.Signals, float], None]

_START = "import sys; from visionloop.pipelines.engines.laptop.runner import main; sys.exit(main(sys.argv[1]))"


@dataclass(frozen=True)
class LocalRun:
    """A pipeline to run here: ``module:function`` that makes it, its arguments, its stages in order, and names.

    ``runner`` says what a stage is: a process (``subprocess``) or a container (``docker``).
    """

    pipeline: str
    arguments: Mapping[str, Any]
    stages: tuple[str, ...]
    workspace: str
    run: str
    trace_id: str | None
    logs: Path
    force: str | None = None
    runner: str = SUBPROCESS


def run_order(order: Order) -> RunResult:
    """Runs a pipeline on this machine as the order says.

    Raises:
        InvalidConfig: If the stage to compute again does not exist, the home can't be written, or as ``run_pipeline``.
        Defect: If it succeeds without a receipt for what it should have registered.
        VisionloopError: The failed stage's own error; UserStopped after Ctrl-C.
    """
    force, stages = order.options.get("force"), STAGES_OF[order.pipeline]
    if force and force not in stages:
        raise InvalidConfig(f"--force {force}: there is no such stage; give one of {', '.join(stages)}.")
    sys.stdout.flush()
    home = find_folder()
    home.create()
    local = LocalRun(
        pipeline=MADE_BY[order.pipeline],
        arguments=order.arguments,
        stages=stages,
        workspace=str(order.arguments["workspace"]),
        run=run_name(order.options.get("run")),
        trace_id=order.trace_id,
        logs=home.logs / "runs",
        force=force,
        runner=order.options.get("runner") or SUBPROCESS,
    )
    with begun(home, local.run, local.workspace, now()):
        result = run_pipeline(local)
    # A receipt proves success, the engine's status does not: what should be measured or registered must be.
    if not completed(result.stages):
        raise Defect(
            f"The engine called run {result.run.run} a success, but register has no receipt; please report it."
        )
    return result


def run_pipeline(local: LocalRun) -> RunResult:
    """Runs a pipeline on this machine.

    Raises:
        VisionloopError: The failed stage's own error; UserStopped after Ctrl-C; InvalidConfig for an unknown
            runner, and for containers without an engine or an image.
    """
    if local.runner not in RUNNERS:
        raise InvalidConfig(f"--runner {local.runner}: give one of {', '.join(RUNNERS)}.")
    if local.runner == DOCKER:
        local = with_trainer(local)
        target = laptop(str(settings_in(local.arguments)["trainer"]))
        (trainer,) = target.trainers
        containers.require(target.image(target.row(stage, trainer)) for stage in local.stages)
    started, since = time.monotonic(), now()
    workspace = open_prefix(local.workspace, "results")
    record = RunRecord(workspace, local.run)
    run = record.open(
        {name: value for name, value in local.arguments.items() if value not in ("", None)}, local.trace_id
    )
    stop.withdraw(record)  # an earlier start of this run was stopped
    local.logs.mkdir(parents=True, exist_ok=True)
    log = local.logs / f"{local.run}.log"
    display = Display(local.stages)
    with temporary_folder("run") as folder:
        # In KFP's own folder, the only one that a container sees.
        root = folder / "kfp"
        root.mkdir()
        events = root / "events.jsonl"
        events.touch()

        def stop_containers(number: signal.Signals, patience: float) -> None:
            if local.runner == DOCKER:
                containers.stop(str(root), number, patience)

        try:
            with _running(lambda: _start(local, run, root, events, log), stop_containers) as process:
                for event in _events(events, process):
                    display.event(event)
        finally:
            display.close()
        if process.returncode != 0:
            stop_containers(signal.SIGTERM, STOP_SECONDS)
    if process.returncode != 0:
        # A runner that was killed leaves its stage, which ends itself and reports why.
        psutil.wait_procs(session(process.pid), STOP_SECONDS)
        _kill(process.pid)
        raise _failure(record, since, process.returncode, log)
    # A run's name may be reused: what an earlier call recorded does not belong to this one.
    recorded = {state.stage: state for state in record.stages() if (state.updated_at or "") >= since}
    states = {name: recorded[name] for name in (*local.stages, *recorded) if name in recorded}
    return RunResult(run, states, time.monotonic() - started, workspace)


def with_trainer(local: LocalRun) -> LocalRun:
    """The same run with its trainer named: in the images of the other stages no library is installed by which they could choose."""
    settings = settings_in(local.arguments)
    name, _ = named_trainer(settings, os.environ) or (DEFAULT_TRAINER, "")
    others = {key: value for key, value in local.arguments.items() if key not in (*SETTINGS, "advanced_config")}
    return replace(local, arguments=others | arguments_for({**settings, "trainer": name}))


def _start(local: LocalRun, run: Run, root: Path, events: Path, log: Path) -> subprocess.Popen[bytes]:
    job = root.with_name("job.json")
    request = Job(pipeline=local.pipeline, arguments=dict(local.arguments), root=str(root), runner=local.runner)
    job.write_bytes(msgspec.json.encode(request))
    environment = {
        **os.environ,
        live.VARIABLE: str(events),
        RUN_VARIABLE: run.run,
        "TRACE_ID": run.trace_id,
        "VISIONLOOP_LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
        # On a laptop nothing else retries: each stage retries itself, as often as the table says.
        ATTEMPTS_VARIABLE: str(POLICIES["train"].attempts),
    }
    if local.force:
        environment[FORCE_VARIABLE] = local.force
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", _START, str(job)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            # A session of its own: Ctrl-C reaches the stages only through this process, and leftovers can be found.
            start_new_session=True,
        )


def _events(file: Path, process: subprocess.Popen[bytes]) -> Iterator[Mapping[str, Any]]:
    """The events as they come, until the runner has ended and all are read."""
    rest = b""
    with file.open("rb") as stream:
        while True:
            ended = process.poll() is not None
            rest += stream.read()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                yield msgspec.json.decode(line)
            if ended:
                return
            time.sleep(0.1)


@contextlib.contextmanager
def _running(
    start: Callable[[], subprocess.Popen[bytes]], stop_containers: Stop = lambda number, patience: None
) -> Iterator[subprocess.Popen[bytes]]:
    """The started runner; when this process is asked to end, everything that the runner started ends first."""
    process = None
    try:
        with _signals_held():
            process = start()
        yield process
    except KeyboardInterrupt:
        _end(process, signal.SIGINT, stop_containers)
        raise UserStopped("The run was stopped by the user; start it again to resume.") from None
    except BaseException:
        _end(process, signal.SIGTERM, stop_containers)
        raise


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Defers signals to the end of the block: a process that is not known yet could not be ended."""
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, CANCEL)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for arrived in came:
            signal.raise_signal(arrived)


def _end(
    process: subprocess.Popen[bytes] | None,
    number: signal.Signals,
    stop_containers: Stop = lambda number, patience: None,
) -> None:
    """Asks every process of the runner's session to end, the stages first, and kills what is left after a while."""
    if process is None:
        return
    members = session(process.pid)
    for member in members:
        # Shells between runner and stage would die first and leave the stage's end unobserved.
        with contextlib.suppress(psutil.Error):
            if "python" in member.name() and member.pid != process.pid:
                member.send_signal(number)
    # A second request ends the wait.
    with contextlib.suppress(KeyboardInterrupt, Terminated):
        stop_containers(number, STOP_SECONDS)
        psutil.wait_procs([member for member in members if member.pid != process.pid], STOP_SECONDS)
    process.kill()
    process.wait()
    _kill(process.pid)
    # What the runner started while the stage ended, its exit task above all.
    stop_containers(signal.SIGKILL, STOP_SECONDS)


def _kill(leader: int) -> None:
    """Kills what is left of a session: with its leader gone, nothing new is started in it."""
    deadline = time.monotonic() + STOP_SECONDS
    while (left := session(leader)) and time.monotonic() < deadline:
        for member in left:
            with contextlib.suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(left, 1)


def _failure(record: RunRecord, since: str, code: int, log: Path) -> VisionloopError:
    """The error of the stage that failed first since a time (in the form of ``runs.now``)."""
    began = datetime.fromisoformat(since).timestamp()
    failures = [failure for failure in record.failures() if failure.written_at >= began]
    if failures:
        first = min(failures, key=lambda failure: failure.written_at)
        return by_code(first.exit_code, first.error_code)(first.error_message)
    if code == -signal.SIGKILL:
        return Killed("The pipeline's runner was killed (SIGKILL); start the run again to resume.")
    return Defect(f"The pipeline's runner ended without a stage's error; its log is {log}.")
