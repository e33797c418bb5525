"""How train survives what can happen to its child, its store and its time: with a trainer that fails as it is told."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import laptop as machine
import msgspec
import psutil
import pytest
from laptop import TOY, Ended, Laptop, Server, Trained, wait_for

from visionloop.components.train import training as attempts
from visionloop.components.train import uploads
from visionloop.components.train.stage import TrainStage
from visionloop.components.train.times import Times
from visionloop.components.train.tracked import TrackedTraining
from visionloop.components.train.training import Training
from visionloop.core import catalog, errors, processes, progress, reservation, running, storage
from visionloop.core.limits import Limits
from visionloop.core.processes import started
from visionloop.core.running import Invocation, run_stage
from visionloop.core.stage import Outcome
from visionloop.training.environment import CHILD_VARIABLES
from visionloop.training.supervision import channel
from visionloop.training.supervision.child import JobFile
from visionloop.training.supervision.supervisor import supervise
from visionloop.training.tracking.mlflow_tracker import MlflowRun

pytestmark = pytest.mark.slow

#: Third parties' trainers that each break a promise.
BROKEN = machine.TESTS / "conformance" / "broken"

#: Importing mlflow is most of what a toy's training takes.
UNTRACKED: dict[str, str | None] = {"MLFLOW_TRACKING_URI": None}


class ShortSilence(Limits):
    """Limits with four seconds in place of five minutes."""

    def __init__(self, stage: str, limit: float, used: float, silence: float = 4.0) -> None:
        super().__init__(stage, limit, used, silence)


@dataclass(frozen=True)
class Prepared:
    """A laptop on which a dataset is converted, and how it trains there."""

    laptop: Laptop
    uris: dict[str, str]

    @property
    def arguments(self) -> list[str]:
        return ["--converted", self.uris["convert"], "--snapshot", self.uris["snapshot"]]

    def train(self, *settings: str, run: str = "supervised", **variables: str) -> Ended:
        """``visionloop stage train``."""
        return self.laptop.stage(
            "train", *self.arguments, "--run", run, settings=(*TOY, *settings), variables=UNTRACKED | variables
        )

    def train_here(self, *settings: str, run: str = "supervised", trainer: str = "toy") -> Outcome:
        """The same in this process, where a test can make its limits small."""
        chosen = [*(setting for setting in TOY if setting != "trainer=toy"), f"trainer={trainer}", *settings]
        arguments = {"converted": self.uris["convert"], "snapshot": self.uris["snapshot"], "set": chosen}
        return run_stage(catalog.stage("train"), arguments, Invocation(self.laptop.workspace.uri, run=run))

    def failure(self, run: str = "supervised") -> Any:
        result = self.laptop.record(run).failure("train")
        assert result is not None
        return result


@pytest.fixture
def prepared(laptop: Laptop, toy_trained: Trained) -> Prepared:
    """A workspace of its own; what train reads lies in another one, and its key is the same."""
    return Prepared(laptop, {stage: toy_trained.receipt_uri(stage) for stage in ("snapshot", "convert")})


@pytest.fixture
def here(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prepared]:
    """The same with this process's environment set, the third party's distribution installed, and no wait between attempts."""
    for name, value in prepared.laptop.environment.items():
        if name.startswith(("EXTERNAL_", "INTERNAL_", "VISIONLOOP_CACHE", "PYTHONPATH", "OMP_")):
            monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(machine.THIRD_PARTY))
    monkeypatch.setattr(TrainStage, "policy", replace(TrainStage.policy, backoff_first=0, backoff_longest=0))
    catalog.load.cache_clear()
    yield prepared
    catalog.load.cache_clear()


@pytest.fixture
def broken(here: Prepared, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """The same, with trainers that each break a promise."""
    monkeypatch.syspath_prepend(str(BROKEN))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(BROKEN), os.environ["PYTHONPATH"]]))
    catalog.load.cache_clear()
    return here


#: A child that starts a process which ignores SIGTERM, writes its id to a file next to the job's, and ends as requested.
LEAVING = """if True:
    import os, subprocess, sys, time
    from pathlib import Path
    left = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; exec sleep 600"], stdout=subprocess.PIPE)
    left.stdout.readline()
    partial = Path(sys.argv[1]).with_name("partial")
    partial.write_text(str(left.pid))
    partial.rename(partial.with_name("left"))
"""

#: How such a child ends.
ENDS = {
    "well": """
    import socket
    from visionloop.training.supervision import channel
    done = channel.Done(best="", last="", best_epoch=1, epochs=1, history=[], plots=[], batch=1, versions={}, devices=[])
    channel.Channel(socket.socket(fileno=int(sys.argv[2]))).send(done)
""",
    "silent": "    sys.exit(3)",
    "killed": "    os.kill(os.getpid(), 9)",
    "stopped": "    time.sleep(600)",
}

#: A process that supervises such a child in a folder.
SUPERVISING = """if True:
    import os, sys
    from pathlib import Path
    from visionloop.training.supervision.child import JobFile
    from visionloop.training.supervision.supervisor import supervise
    nothing = lambda *_: None
    job = JobFile(trainer="", task="", dataset="", classes=[], config={}, weights=None, work="", checkpoint=None, batch=1)
    supervise(job, Path(sys.argv[1]), os.environ, on_batch=nothing, on_epoch=nothing, on_images=nothing, program=sys.argv[2])
"""


def nothing(*_: object) -> Any:
    """Is told, and does nothing."""


@pytest.mark.parametrize("ends", ENDS)
def test_nothing_that_a_trainer_started_outlives_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
):
    monkeypatch.setattr(processes, "LEFT_SECONDS", 0.1)
    left = tmp_path / "left"

    def look() -> None:
        if ends == "stopped" and left.exists():
            raise errors.UserStopped("stopped.")

    job = JobFile(
        trainer="", task="", dataset="", classes=[], config={}, weights=None, work="", checkpoint=None, batch=1
    )
    kinds = {"silent": errors.Defect, "killed": errors.Killed, "stopped": errors.UserStopped}
    with pytest.raises(kinds[ends]) if ends in kinds else nullcontext():
        supervise(
            job,
            tmp_path,
            os.environ,
            on_batch=nothing,
            on_epoch=nothing,
            on_images=nothing,
            on_look=look,
            program=LEAVING + ENDS[ends],
        )
    assert started(int(left.read_text())) is None


def test_a_stage_that_is_killed_takes_its_child_and_all_that_it_started_with_it(tmp_path: Path):
    """The kernel tells only the child itself that its parent is gone."""
    with subprocess.Popen([sys.executable, "-c", SUPERVISING, str(tmp_path), LEAVING + ENDS["stopped"]]) as stage:
        left = tmp_path / "left"
        wait_for(left.exists)
        below = psutil.Process(stage.pid).children(recursive=True)
        assert int(left.read_text()) in {process.pid for process in below}
        stage.kill()
    wait_for(lambda: all(started(process.pid) is None for process in below))


def states(laptop: Laptop) -> list[str]:
    """The states of MLflow's runs."""
    return [status for (status,) in laptop.query("SELECT status FROM runs ORDER BY start_time")]


@pytest.fixture
def tracked(here: Prepared, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """The same, tracked by the laptop's MLflow."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", here.laptop.environment["MLFLOW_TRACKING_URI"])
    return here


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("killed", errors.Killed),
        ("crashed", errors.SickMachine),
        ("diverged", errors.InvalidConfig),
        ("defect", errors.Defect),
    ],
)
def test_a_training_that_failed_has_failed_in_mlflow_too(
    tracked: Prepared, fault: str, kind: type[errors.VisionloopError]
):
    with pytest.raises(kind):
        tracked.train_here(f"fault={fault}")
    assert states(tracked.laptop) == ["FAILED"]
    # The next attempt goes on in the same run.
    assert tracked.train_here(f"fault={fault}").scalars["epochs"] == 4
    assert states(tracked.laptop) == ["FINISHED"]


def test_a_failure_before_the_tracker_is_opened_ends_what_an_earlier_attempt_opened(
    tracked: Prepared, monkeypatch: pytest.MonkeyPatch
):
    """As after a pod that was lost: its run is still open when the next attempt meets a bad image."""
    with monkeypatch.context() as patched:
        patched.setattr(Training, "end_tracking", lambda *_: None)
        with pytest.raises(errors.Killed):
            tracked.train_here("fault=killed")
    assert states(tracked.laptop) == ["RUNNING"]

    def changed(*_: object) -> None:
        raise errors.DatasetChanged("train/000001.png changed.")

    monkeypatch.setattr(Training, "_make_view", changed)
    with pytest.raises(errors.DatasetChanged):
        tracked.train_here()
    assert states(tracked.laptop) == ["FAILED"]
    assert (tracked.failure().exit_code, tracked.failure().last_successful_epoch) == (65, 1)


def test_a_tracker_that_hangs_delays_the_end_of_a_failed_training_a_little(
    tracked: Prepared, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attempts, "TRACKER_SECONDS", 0.1)
    release = threading.Event()
    monkeypatch.setattr(TrackedTraining, "finish", lambda *_: release.wait(60))
    with pytest.raises(errors.Killed):
        tracked.train_here("fault=killed")
    assert tracked.failure().last_successful_epoch == 1
    release.set()


def test_a_tracker_that_is_out_is_asked_as_often_at_the_end_of_a_short_training_as_of_a_long_one(
    tracked: Prepared, monkeypatch: pytest.MonkeyPatch
):
    """Each time takes all retries of a request: a finished training of many epochs would end as stuck."""
    asked, before = list[str](), list[int]()

    def out(*_: object) -> None:
        asked.append("start")
        raise errors.Transient("MLflow does not answer.")

    def published(training: Training, *command_line: Any) -> Any:
        before.append(len(asked))
        return publish(training, *command_line)

    publish = Training._publish_outputs
    monkeypatch.setattr(MlflowRun, "start", out)
    monkeypatch.setattr(Training, "_publish_outputs", published)
    assert tracked.train_here().scalars["epochs"] == 4
    # To end the run with the epochs that it lacks; the attempts of the last epochs may come as late.
    assert 1 <= len(asked) - before[0] <= 3


def test_a_checkpoint_counts_as_soon_as_it_is_durable(here: Prepared, monkeypatch: pytest.MonkeyPatch):
    """What comes after it, such as removing older ones, may fail: the epoch is kept anyway."""
    advance = progress.advance

    def then_fail(*command_line: Any) -> Any:
        advance(*command_line)
        monkeypatch.setattr(storage.Prefix, "delete", fail)

    def fail(*_: object) -> int:
        raise errors.Transient("the store is out.")

    monkeypatch.setattr(progress, "advance", then_fail)
    with pytest.raises(errors.Transient):
        here.train_here()
    monkeypatch.undo()
    assert here.failure().last_successful_epoch == 1


def test_an_epoch_that_is_reported_twice_ends_the_training_before_it_costs_a_checkpoint(broken: Prepared):
    with pytest.raises(errors.Defect, match="The trainer twice reported epoch 1 where epoch 2 was next"):
        broken.train_here(trainer="twice")
    assert (broken.failure().exit_code, broken.failure().last_successful_epoch) == (70, 1)
    recorded = broken.laptop.progress()
    assert recorded is not None
    (key,) = broken.laptop.workspace.children("train")[0]
    prefix = broken.laptop.workspace.child(f"train/{key}")
    (checkpoint,) = recorded.checkpoints
    assert hashlib.sha256(prefix.read(checkpoint.path)).hexdigest() == checkpoint.sha256


def test_a_value_that_is_no_finite_number_is_left_out_aloud(broken: Prepared, capfd: pytest.CaptureFixture[str]):
    """No record can hold it, and a training of hours does not end for it."""
    outcome = broken.train_here(trainer="unbounded")
    assert outcome.result is not None
    receipt = outcome.result.receipt
    assert "val_loss" not in receipt.metrics
    assert receipt.metrics["mAP50"] > 0
    history = json.loads(outcome.result.read("history"))["epochs"]
    assert ["val_loss" in entry["val_metrics"] for entry in history] == [False] * 4
    assert (
        "train: the trainer unbounded gives no finite number for val_loss (val_metrics), loading (seconds) in epoch 4; left out."
        in capfd.readouterr().err
    )


def test_a_stage_that_is_stuck_names_the_last_epoch_too(here: Prepared, monkeypatch: pytest.MonkeyPatch):
    """A thread then ends the process, and no `except` of the stage is reached."""
    seen: list[int | None] = []

    def stuck(training: Any, *command_line: Any) -> None:
        record(training, *command_line)
        training.context.limits.on_stuck(errors.Silent("train is stuck."))
        seen.append(here.failure().last_successful_epoch)

    record = Training._record
    monkeypatch.setattr(Training, "_record", stuck)
    here.train_here()
    assert seen == [1, 2, 3, 4]


def test_a_child_that_the_kernel_kills_is_tried_again_and_resumes(
    here: Prepared, toy_trained: Trained, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "3")
    receipt = here.train_here("fault=killed").receipt
    said = capfd.readouterr().err
    assert "was killed (SIGKILL)" in said
    assert "(attempt 2 of 3)" in said
    assert "resuming after epoch 1 of 4" in said
    uninterrupted = toy_trained.laptop.receipt("train", toy_trained.key("train"))
    assert receipt is not None
    assert (receipt.key, receipt.digest) == (uninterrupted.key, uninterrupted.digest)
    assert here.laptop.record("supervised").failure("train") is None


@pytest.mark.parametrize(
    ("fault", "code", "sentence"),
    [
        ("killed", 137, "The training process was killed (SIGKILL)"),
        ("terminated", 143, "The training process was ended by SIGTERM that the stage did not send"),
        ("crashed", 71, "The training process crashed with SIGSEGV"),
        ("diverged", 78, "Training diverged; lower lr0."),
    ],
)
def test_what_ended_the_child_is_the_stages_error(prepared: Prepared, fault: str, code: int, sentence: str):
    ended = prepared.train(f"fault={fault}")
    assert ended.refused(code).startswith(sentence)
    assert prepared.failure().exit_code == code
    assert prepared.failure().last_successful_epoch == 1
    assert prepared.laptop.keys("train") == []
    assert prepared.laptop.processes() == []


def test_sigterm_to_the_stage_alone_is_passed_on_to_its_child(prepared: Prepared):
    """As an engine sends it to a container's first process, and to no other."""
    command_line = prepared.laptop.stage_command("train", *prepared.arguments, "--run", "evicted")
    settings = machine.sets((*TOY, f"hold_until={prepared.laptop.folder / 'gate'}"))
    secrets: dict[str, str | None] = {
        "VISIONLOOP_NOTIFY_URL": "https://hooks.example.com/secret",
        "ARGO_TOKEN": "secret",
        "HTTPS_PROXY": "http://user:secret@proxy",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    command = prepared.laptop.start(*command_line, *settings, variables=secrets)
    # Its own word that epoch 1 is kept: the store shows it a moment before the stage knows.
    wait_for(lambda: "epoch 1/" in command.stderr, command)
    child = command.descendant("visionloop.training.supervision.child")
    environment = child.environ()
    assert not [name for name in environment if not any(fnmatchcase(name, pattern) for pattern in CHILD_VARIABLES)]
    assert {"PATH", "PYTHONPATH", "VISIONLOOP_CACHE", "OMP_NUM_THREADS", "CUDA_DEVICE_ORDER"} <= set(environment)
    assert "INTERNAL_S3_SECRET_KEY" in set(prepared.laptop.environment) - set(environment)
    command.process.send_signal(signal.SIGTERM)
    assert command.end().refused(143) == "train was asked to end by SIGTERM; run it again to resume."
    assert not child.is_running()
    assert states(prepared.laptop) == ["FAILED"]
    assert prepared.laptop.processes() == []
    assert (prepared.failure("evicted").exit_code, prepared.failure("evicted").last_successful_epoch) == (143, 1)
    recorded = prepared.laptop.progress()
    assert recorded is not None
    assert recorded.epoch == 1
    assert not [info for info in prepared.laptop.workspace.objects("train") if info.key.endswith("reservation.json")]


@pytest.mark.parametrize(
    ("passed_over", "sentence"),
    [
        ("000002.png", "toy uses 15 of the 16 images of the split train and leaves out train/000002.png; "),
        (
            "000002.png,000005.png",
            "toy uses 14 of the 16 images of the split train and leaves out train/000002.png, train/000005.png; ",
        ),
    ],
)
def test_a_training_on_fewer_images_than_were_converted_is_refused(here: Prepared, passed_over: str, sentence: str):
    """Whoever's trainer it is: before its first epoch, and nothing is published under the dataset's key."""
    with pytest.raises(errors.InvalidDataset) as caught:
        here.train_here(f"passed_over={passed_over}")
    assert sentence in caught.value.sentence
    assert (here.failure().exit_code, here.failure().last_successful_epoch) == (65, None)
    assert here.laptop.keys("train") == []


def test_a_trainer_that_does_not_say_what_it_trains_on_is_named(here: Prepared, capfd: pytest.CaptureFixture[str]):
    here.train_here("reports_images=false", "passed_over=000002.png")
    assert "toy does not say which images of the splits train and val it uses" in capfd.readouterr().err
    here.train_here("momentum=0.8")
    assert "does not say which images" not in capfd.readouterr().err


def test_gpus_of_the_pod_that_stay_idle_are_named(
    here: Prepared, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VISIONLOOP_POD_GPUS", "2")
    here.train_here("momentum=0.7")
    assert (
        "train: this pod was given 2 GPUs, and the training computes on 1 GPU: give device=0,1"
        in capfd.readouterr().err
    )


def test_a_defect_of_the_trainer_is_told_with_its_traceback_in_the_record_alone(prepared: Prepared):
    sentence = prepared.train("fault=defect").refused(70)
    assert sentence == "train met a defect of Visionloop or toy (ZeroDivisionError: the toy's own); please report it."
    assert "ZeroDivisionError: the toy's own" in prepared.failure().traceback


def test_half_the_batch_is_tried_until_it_fits(
    here: Prepared, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "3")
    outcome = here.train_here("fits=3")
    assert outcome.scalars["batch_used"] == 2
    assert outcome.receipt is not None
    assert outcome.receipt.parameters["batch"].value == 8
    assert re.findall(r"train: A batch of (\d) does not fit", capfd.readouterr().err) == ["8", "4"]


def test_the_next_attempt_of_an_engine_takes_half_the_batch_too(prepared: Prepared):
    """An engine starts a new process for each attempt; what it needs to know stands in failure.json."""
    prepared.train("fits=4").refused(76)
    assert (prepared.failure().batch, prepared.failure().exit_code) == (4, 76)
    ended = prepared.train("fits=4").expect()
    assert ended.summary["batch_used"] == 4
    # Another run starts with what is configured.
    prepared.train("fits=4", "seed=1", run="another").refused(76)


def test_a_silent_child_is_ended_and_the_next_attempt_resumes(here: Prepared, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "Limits", ShortSilence)
    with pytest.raises(errors.Silent, match=r"train finished no work for 4 s; it is tried again\."):
        here.train_here("fault=silent")
    assert (here.failure().exit_code, here.failure().last_successful_epoch) == (124, 1)
    assert here.laptop.processes() == []
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "2")
    outcome = here.train_here("fault=silent", "seed=1", run="again")
    assert outcome.scalars["epochs"] == 4
    assert len(here.laptop.record("again").state("train").attempts) == 2


def test_time_counts_over_all_attempts_and_the_best_so_far_is_kept(here: Prepared, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(TrainStage, "policy", replace(TrainStage.policy, timeout=8))
    gate = here.laptop.folder / "gate"
    with pytest.raises(errors.TimeLimit) as raised:
        here.train_here(f"hold_until={gate}")
    assert str(raised.value).startswith("train used up its time limit of 8 s over all attempts")
    failure = here.failure()
    assert (failure.exit_code, failure.last_successful_epoch) == (79, 1)
    (key,) = here.laptop.keys("train")
    kept = here.laptop.receipt("train", key)
    assert failure.receipt == f"{here.laptop.workspace.uri}/train/{key}/receipt.json"
    assert (kept.parameters["stopped_after_epoch"].value, kept.scalars["epochs"]) == (1, 1)
    # Somebody raises the limit and tries again: the full training goes on where it was, under its own key.
    monkeypatch.setattr(TrainStage, "policy", replace(TrainStage.policy, timeout=600))
    gate.touch()
    outcome = here.train_here(f"hold_until={gate}")
    assert outcome.receipt is not None
    assert outcome.receipt.key != key
    assert outcome.scalars["epochs"] == 4


def test_a_training_ends_well_after_the_first_epoch_that_is_good_enough(
    here: Prepared, toy_trained: Trained, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Whichever trainer: this one knows nothing of it. Killed before its result was there, it trains no further epoch."""
    uninterrupted = toy_trained.laptop.receipt("train", toy_trained.key("train"))
    prefix = toy_trained.laptop.workspace.child(f"train/{uninterrupted.key}")
    losses = [
        epoch["val_metrics"]["val_loss"]
        for epoch in json.loads(prefix.read(uninterrupted.outputs["history"].path))["epochs"]
    ]
    assert losses[0] < losses[1]
    metric = ("primary_metric=val_loss", "primary_metric_mode=max")
    settings = (*metric, f"stop_metric={losses[1]!r}")

    def killed(*_: object) -> None:
        raise errors.Transient("The pod is gone.")

    with monkeypatch.context() as first:
        first.setattr(Training, "_publish_outputs", killed)
        with pytest.raises(errors.Transient):
            here.train_here(*settings, run="killed")
    recorded = here.laptop.progress()
    assert recorded is not None
    assert (recorded.epoch, recorded.finished) == (2, True)
    outcome = here.train_here(*settings)
    assert outcome.receipt is not None
    assert outcome.receipt.key != uninterrupted.key
    assert outcome.receipt.parameters["stop_metric"].value == losses[1]
    assert (outcome.scalars["epochs"], outcome.scalars["ended_early_by"]) == (2, "stop_metric")
    assert (
        f"ended well after epoch 2 of 4: its val_loss of {losses[1]:.4g} reaches stop_metric" in capfd.readouterr().err
    )
    # One that is never reached changes nothing but the key.
    whole = here.train_here(*metric, f"stop_metric={2 * max(losses)}").receipt
    assert whole is not None
    assert whole.outputs["last"].sha256 == uninterrupted.outputs["last"].sha256
    assert "ended_early_by" not in whole.scalars


def test_a_store_that_goes_away_ends_the_training_until_it_is_back(prepared: Prepared, s3: Server):
    gate = prepared.laptop.folder / "gate"
    with machine.relay(s3) as (process, endpoint):
        variables = UNTRACKED | {"INTERNAL_S3_ENDPOINT": endpoint}
        arguments = [*prepared.arguments, "--run", "cut"]
        settings = (*TOY, f"hold_until={gate}")
        command = prepared.laptop.start(
            *prepared.laptop.stage_command("train", *arguments, settings=settings), variables=variables
        )
        wait_for(lambda: (recorded := prepared.laptop.progress()) and recorded.epoch >= 1, command)
        process.kill()
        process.wait()
        gate.touch()
        ended = command.end()
    sentence = ended.refused(75)
    assert sentence.startswith("The checkpoint of epoch 2 could not be uploaded: ")
    assert endpoint in sentence
    recorded = prepared.laptop.progress()
    assert recorded is not None
    assert recorded.epoch == 1
    again = prepared.train(run="cut").expect()
    assert any("resuming after epoch 1 of 4" in line["message"] for line in again.log)


def test_the_trainer_goes_on_while_one_checkpoint_is_sent(
    here: Prepared, toy_trained: Trained, monkeypatch: pytest.MonkeyPatch
):
    """The first upload ends once a batch of the next epoch is done; the next epoch's own begins behind it."""
    gone_on, command_line = threading.Event(), list[tuple[str, int]]()

    def on_batch(training: Any, batch: Any) -> None:
        if batch.epoch == 2:
            gone_on.set()
        tell_batch(training, batch)

    def slow(prefix: storage.Prefix, local: Path, key: str, *more: Any) -> storage.Sent:
        if "/checkpoints/" not in key:
            return upload(prefix, local, key, *more)
        epoch = int(Path(key).stem.rpartition("_")[2])
        command_line.append(("begins", epoch))
        before = progress.read(prefix)
        assert (before.epoch if before else 0) == epoch - 1
        assert epoch > 1 or gone_on.wait(60)
        sent = upload(prefix, local, key, *more)
        command_line.append(("ends", epoch))
        return sent

    upload, tell_batch = storage.Prefix.upload, Training._on_batch
    monkeypatch.setattr(storage.Prefix, "upload", slow)
    monkeypatch.setattr(Training, "_on_batch", on_batch)
    receipt = here.train_here().receipt
    assert command_line == [(what, epoch) for epoch in (1, 2, 3, 4) for what in ("begins", "ends")]
    assert receipt is not None
    assert receipt.digest == toy_trained.laptop.receipt("train", receipt.key).digest


def test_an_upload_that_fails_to_the_last_try_ends_the_training(here: Prepared, monkeypatch: pytest.MonkeyPatch):
    sent: list[str] = []

    def refuse(prefix: storage.Prefix, local: Path, key: str, *more: Any) -> storage.Sent:
        if "/checkpoints/" in key:
            sent.append(Path(key).name)
            if key.endswith("epoch_2.pt"):
                raise errors.Transient("the store is out.")
        return upload(prefix, local, key, *more)

    upload = storage.Prefix.upload
    monkeypatch.setattr(storage.Prefix, "upload", refuse)
    monkeypatch.setattr(uploads, "UPLOAD_BACKOFF_SECONDS", 0.01)
    with pytest.raises(errors.CheckpointUploadFailed) as caught:
        here.train_here()
    assert str(caught.value) == "The checkpoint of epoch 2 could not be uploaded: the store is out."
    assert sent == ["epoch_1.pt", *["epoch_2.pt"] * uploads.UPLOAD_TRIES]
    assert (here.failure().exit_code, here.failure().last_successful_epoch) == (75, 1)
    recorded = here.laptop.progress()
    assert recorded is not None
    assert [checkpoint.epoch for checkpoint in recorded.checkpoints] == [1]
    assert here.laptop.processes() == []


@pytest.mark.parametrize(
    ("number", "in_time", "kind"),
    [
        (signal.SIGTERM, True, errors.Terminated),
        (signal.SIGTERM, False, errors.Terminated),
        (signal.SIGINT, True, errors.UserStopped),
    ],
)
def test_a_stage_that_is_asked_to_end_finishes_its_upload_if_there_is_time(
    here: Prepared, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, in_time: bool, kind: type[Exception]
):
    """Of one that takes longer nothing is recorded, also when it ends after all."""
    release, ended = threading.Event(), threading.Event()

    def slow(prefix: storage.Prefix, local: Path, key: str, *more: Any) -> storage.Sent:
        if "/checkpoints/" in key:
            os.kill(os.getpid(), number)
            assert in_time or release.wait(60)
        return upload(prefix, local, key, *more)

    def end(sending: uploads.Upload) -> None:
        run(sending)
        ended.set()

    upload, run = storage.Prefix.upload, uploads.Upload._run
    monkeypatch.setattr(storage.Prefix, "upload", slow)
    monkeypatch.setattr(uploads.Upload, "_run", end)
    monkeypatch.setattr(attempts, "GRACE_SECONDS", 60 if in_time else 0.1)
    with pytest.raises(kind):
        here.train_here()
    epoch = 1 if in_time else None
    assert here.failure().last_successful_epoch == epoch
    release.set()
    assert ended.wait(60)
    keys, _ = here.laptop.workspace.children("train")
    recorded = [progress.read(here.laptop.workspace.child(f"train/{key}")) for key in keys]
    assert [existing.epoch for existing in recorded if existing] == ([1] if in_time else [])
    kept = [here.laptop.receipt("train", key).scalars["epochs"] for key in here.laptop.keys("train")]
    assert kept == ([1] if number == signal.SIGINT else [])


@pytest.mark.parametrize("stopped", [False, True])
def test_the_end_of_the_training_process_is_no_part_of_an_uploads_time(
    here: Prepared, monkeypatch: pytest.MonkeyPatch, stopped: bool
):
    """Neither after a whole training, nor where a stopped one is only finalised."""
    arguments: list[str | None] = []

    def on_batch(training: Any, batch: Any) -> None:
        if stopped and batch.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
        tell_batch(training, batch)

    def supervised(*environment: Any, **named: Any) -> Any:
        done = supervise(*environment, **named)
        arguments.append("ended")
        return done

    def turn(times: Times, part: str | None) -> None:
        arguments.append(part)
        turn_to(times, part)

    tell_batch, turn_to = Training._on_batch, Times.turn
    monkeypatch.setattr(Training, "_on_batch", on_batch)
    monkeypatch.setattr(attempts, "supervise", supervised)
    monkeypatch.setattr(Times, "turn", turn)
    with pytest.raises(errors.UserStopped) if stopped else nullcontext():
        here.train_here()
    assert arguments[arguments.index("ended") + 1 :] == [None, "upload"]


def test_killed_in_an_upload_loses_that_epoch_and_the_one_under_way(
    prepared: Prepared, toy_trained: Trained, s3: Server
):
    gate = prepared.laptop.folder / "gate"
    with machine.relay(s3) as (process, endpoint):
        command_line = prepared.laptop.stage_command(
            "train", *prepared.arguments, settings=(*TOY, f"hold_until={gate}")
        )
        command = prepared.laptop.start(*command_line, variables=UNTRACKED | {"INTERNAL_S3_ENDPOINT": endpoint})
        wait_for(lambda: "epoch 1/" in command.stderr, command)
        process.send_signal(signal.SIGSTOP)
        gate.touch()
        work = Path(command.descendant("visionloop.training.supervision.child").cmdline()[3]).parent / "work"
        wait_for((work / "epoch_3.json").exists, command)
        command.kill()
    recorded = prepared.laptop.progress()
    assert recorded is not None
    assert [checkpoint.epoch for checkpoint in recorded.checkpoints] == [1]
    ended = prepared.train().expect()
    assert any("resuming after epoch 1 of 4" in line["message"] for line in ended.log)
    uninterrupted = toy_trained.laptop.receipt("train", toy_trained.key("train"))
    assert prepared.laptop.receipt("train", ended.summary["key"]).digest == uninterrupted.digest


@pytest.mark.slow
def test_a_training_killed_within_its_first_epoch_goes_on_there(
    here: Prepared, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """With ``checkpoint_minutes`` an epoch of hours loses minutes, and the result is the same to the byte."""
    small = {"trainer": "torchvision", "model": "fcos_tiny.yaml", "epochs": 2, "imgsz": 64, "batch": 4, "workers": 0}
    small |= {"device": "cpu", "checkpoint_minutes": 1e-9}

    def train(run: str, **changes: object) -> Outcome:
        arguments = {"converted": here.uris["convert"], "snapshot": here.uris["snapshot"]}
        arguments["settings"] = json.dumps(small | changes)
        invocation = Invocation(here.laptop.workspace.uri, run=run, force=run == "whole")
        return run_stage(catalog.stage("train"), arguments, invocation)

    on_step = Training._on_step

    def killed(self: Training, step: channel.Step) -> None:
        on_step(self, step)
        if step.step == 2:
            self._settle()
            (child,) = [
                one for one in psutil.Process().children() if "visionloop.training.supervision" in str(one.cmdline())
            ]
            child.kill()

    with monkeypatch.context() as first:
        first.setattr(Training, "_on_step", killed)
        with pytest.raises(errors.Killed):
            train("killed")
    assert here.failure("killed").last_successful_epoch is None
    recorded = here.laptop.progress()
    assert recorded is not None
    assert (recorded.at, [entry.at for entry in recorded.checkpoints]) == ((0, 2), [(0, 2)])
    resumed = train("resumed").receipt
    assert "train: resuming within epoch 1 of 2, after step 2 of it, from " in capfd.readouterr().err
    whole = train("whole", checkpoint_minutes=0).receipt
    assert resumed is not None
    assert whole is not None
    assert (resumed.key, resumed.digest) == (whole.key, whole.digest)
    assert resumed.attempt != whole.attempt


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_torn_checkpoint_is_not_resumed_from_but_the_one_before(prepared: Prepared, toy_trained: Trained, epoch: int):
    """The torn one may be that of the last epoch, when there was nothing left but to make the result of it."""
    if epoch == 4:
        gate = f"hold_until={prepared.laptop.folder / 'gate'}"
        command_line = prepared.laptop.stage_command(
            "train", *prepared.arguments, settings=(*TOY, "hold_after=4", gate)
        )
        command = prepared.laptop.start(*command_line, variables=UNTRACKED)
        wait_for(lambda: (recorded := prepared.laptop.progress()) and recorded.finished, command)
        command.kill()
    else:
        prepared.train("fault=killed", "fault_after=2").refused(137)
    recorded = prepared.laptop.progress()
    assert recorded is not None
    newest, before = recorded.checkpoints
    assert (newest.epoch, before.epoch) == (epoch, epoch - 1)
    (key,) = prepared.laptop.workspace.children("train")[0]
    prefix = prepared.laptop.workspace.child(f"train/{key}")
    prefix.write(newest.path, prefix.read(newest.path)[:-100])
    ended = prepared.train().expect()
    messages = [line["message"] for line in ended.log]
    assert f"{newest.path} is torn; the checkpoint before it is used." in messages
    assert f"train: resuming after epoch {epoch - 1} of 4, from {prefix.uri}/{before.path}" in messages
    uninterrupted = toy_trained.laptop.receipt("train", toy_trained.key("train"))
    assert prepared.laptop.receipt("train", ended.summary["key"]).digest == uninterrupted.digest


def test_the_seconds_of_a_run_that_finished_no_epoch_are_the_trainings_too(here: Prepared):
    with pytest.raises(errors.Killed):
        here.train_here("fault=killed", "fault_after=0", run="first")
    used = here.laptop.record("first").state("train").seconds
    outcome = here.train_here(run="second")
    assert outcome.result is not None
    timings = outcome.result.receipt.timings
    assert timings["seconds"] > timings["earlier_seconds"] >= used > 0
    of_epochs = [timings[f"{part}_seconds"] for part in ("loading", "computing", "validating")]
    assert min(of_epochs) >= 0
    assert sum(of_epochs) <= timings["epochs_seconds"] + 0.003  # each is rounded
    parts = [timings[f"{part}_seconds"] for part in ("waiting", "download", "first_batch", "epochs", "upload")]
    assert min(parts) >= 0
    assert timings["earlier_seconds"] + sum(parts) <= timings["seconds"] + 0.003
    assert timings["images_per_second"] > 0
    assert timings["checkpoint_upload_seconds"] > 0
    assert "peak_gpu_bytes" not in timings
    assert timings["gpu_hours"] == 0
    assert outcome.result.receipt.versions["hardware"] == "CPU"
    run_stage(catalog.stage("cleanup"), {}, Invocation(here.laptop.workspace.uri, run="second"))
    assert not list(outcome.result.prefix.objects("runs"))


def test_checkpoints_of_an_unfinished_training_survive_cleanup(prepared: Prepared):
    prepared.train("fault=killed", "fault_after=2").refused(137)
    prepared.laptop.stage("cleanup", "--run", "supervised").expect()
    recorded = prepared.laptop.progress()
    assert recorded is not None
    keys, _ = prepared.laptop.workspace.children("train")
    prefix = prepared.laptop.workspace.child(f"train/{keys[0]}")
    assert all(prefix.exists(checkpoint.path) for checkpoint in recorded.checkpoints)
    aged = prepared.laptop.stage("cleanup", "--run", "supervised", "--abandoned-days", "0").expect().summary
    assert aged["removed"] == 2
    assert not any(prefix.exists(checkpoint.path) for checkpoint in recorded.checkpoints)


def test_cleanup_ends_the_run_that_a_lost_pod_left_open(tracked: Prepared, monkeypatch: pytest.MonkeyPatch):
    """The pod left its reservation too; one of another run is that run's affair."""
    with monkeypatch.context() as patched:
        patched.setattr(Training, "end_tracking", lambda *_: None)
        with pytest.raises(errors.Killed):
            tracked.train_here("fault=killed")
    (key,) = tracked.laptop.workspace.children("train")[0]
    prefix = tracked.laptop.workspace.child(f"train/{key}")
    elsewhere = reservation.Holder("another-node", "boot", 1, 1, 1.0)

    def cleanup(holder: str) -> str:
        held = reservation.Reserved(holder, "attempt", elsewhere, 1, 60.0, "")
        prefix.write(reservation.FILE, msgspec.json.encode(held))
        run_stage(catalog.stage("cleanup"), {}, Invocation(tracked.laptop.workspace.uri, run="supervised"))
        return states(tracked.laptop)[0]

    assert cleanup("another") == "RUNNING"
    assert cleanup("supervised") == "FAILED"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert cleanup("supervised") == "FAILED"  # nothing is left to end, so nobody is asked


def test_a_training_in_the_middle_of_its_work_leaves_its_chatter_on_stderr(prepared: Prepared):
    ended = prepared.train().expect()
    assert json.loads(ended.stdout)["epochs"] == 4
    assert ended.stdout.count("\n") == 1


def test_each_line_of_a_trainings_text_log_has_the_trace_id(prepared: Prepared):
    """Those of the stage, of the trainer's process, and of what a library prints there."""
    ended = prepared.train(VISIONLOOP_LOG_FORMAT="text").expect()
    run = prepared.laptop.record("supervised").read()
    assert run is not None
    lines = ended.stderr.splitlines()
    assert [line for line in lines if not line.startswith(f"[TRACE:{run.trace_id}] ")] == []
    messages = [line.partition("] ")[2] for line in lines]
    assert "a library's chatter in a training" in messages
    assert any(message.startswith("epoch 4/4: ") for message in messages)
