"""One attempt at a training: the trainer's process, what it reports, and the checkpoints that are made durable."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from visionloop.components.train import early, spent
from visionloop.components.train.comparison import ImageComparison
from visionloop.components.train.loaded import Loaded, make_job, planned, reduction_of
from visionloop.components.train.times import Times
from visionloop.components.train.tracked import TrackedTraining
from visionloop.components.train.uploads import GRACE_SECONDS, Aside, Upload
from visionloop.core import live, progress, stop
from visionloop.core.errors import Defect, NotFound, OutOfMemory, VisionloopError
from visionloop.core.logs import LOGGER, notice
from visionloop.core.stage import Attempt, Computed, Context, Resolution
from visionloop.core.storage import Sent
from visionloop.data import images
from visionloop.training import catalog
from visionloop.training.devices import idle_gpus
from visionloop.training.environment import child_environment, trainer_variables
from visionloop.training.preflight import check_machine
from visionloop.training.stopwatch import DOWNLOAD, EPOCHS, UPLOAD, WAITING
from visionloop.training.supervision import channel
from visionloop.training.supervision.supervisor import supervise
from visionloop.training.tracking import end_left_open

#: The splits that a training uses.
TRAINED_SPLITS = ("train", "val")

#: How long the end of a training that failed waits for its tracker.
TRACKER_SECONDS = 10.0


class StopRequested(Exception):
    """A person has asked the run to stop; the epochs so far are durable. Never leaves the stage."""

    def __init__(self, request: stop.Stop) -> None:
        """``request`` is what was asked for."""
        super().__init__()
        self.request = request


class Training:
    """One attempt at a training."""

    def __init__(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> None:
        """Nothing is done yet."""
        self.context, self.resolution, self.attempt = context, resolution, attempt
        loaded = resolution.loaded
        self.loaded = loaded
        self.epochs = int(str(loaded.config.values["epochs"]))
        self.batch = _batch(context, loaded)
        self.last_epoch = 0
        self.started = time.monotonic()
        self._times = Times(context.limits.started)
        self._times.turn(WAITING)
        self._uploaded: list[progress.Checkpoint] = []
        self._aside = Aside(attempt.work / "checkpoints")
        self._sending: tuple[channel.Epoch | channel.Step, Upload] | None = None
        self._recorded: progress.Progress | None = None
        self._untracked: channel.Epoch | None = None
        self._reported = 0
        self._spent_before: dict[str, float] = {}
        self._tracked: TrackedTraining | None = None
        self._dataset = attempt.work / "dataset"
        self._local: Path | None = None

    @property
    def seconds(self) -> float:
        """Seconds since this attempt began."""
        return time.monotonic() - self.started

    def run(self) -> Computed:
        """Trains to the end."""
        prefix = self.attempt.key_prefix
        earlier = self._recorded = self._earlier_progress()
        self._spent_before = spent.by_other_runs(earlier, prefix, self.context.workspace, self.context.run.name)
        spent.begin(prefix, self.context.run.name)
        if earlier is None or not earlier.finished:
            check_machine(planned(self.loaded), os.environ)
        checkpoint = self._fetch_checkpoint(earlier) if earlier else None
        self._tell_begin(earlier)
        self._times.turn(DOWNLOAD)
        # When resuming from an older generation of a finished training, the last epoch is trained again.
        if earlier is None or not earlier.finished or self.last_epoch < earlier.epoch:
            self._stop_before_training()
            self._make_view()
            self._times.turn(DOWNLOAD)
        if idle := idle_gpus(self.loaded.config.values["device"], os.environ):
            notice(f"train: {idle}")
        if checkpoint:
            notice(f"train: resuming {self._where(self._uploaded[0])}, from {self._uri(self._uploaded[0])}")
        self._tracked = TrackedTraining(self.context, self.attempt, self.loaded, self.last_epoch)
        settings = self.loaded.config.values
        if earlier is not None and earlier.finished and self.last_epoch == earlier.epoch:
            # The stage may have ended it early, of which the trainer knows nothing: its checkpoint is only finalised.
            settings = {**settings, "epochs": earlier.epoch}
        done = self._supervise(checkpoint, settings, listening=True)
        self._times.turn(None)
        self._settle()
        computed = self._publish_outputs(done, self.attempt)
        self._tell_early_end(done, computed)
        self._tracked.complete(done.history, done.plots, self.loaded)
        computed.tracking = self._tracked.record()
        return computed

    def _tell_early_end(self, done: channel.Done, computed: Computed) -> None:
        """Tells what ended the training before its last epoch, and adds it to the receipt."""
        settings, val_metrics = self.loaded.config.values, _val_metrics(done)
        reason = early.ended_early_by(settings, done.epochs, val_metrics.get(done.epochs, {}))
        told_of = done.epochs if reason == "stop_metric" else done.best_epoch
        value = val_metrics.get(told_of, {}).get(str(settings["primary_metric"]))
        if reason is None or value is None:
            return
        computed.scalars[early.SCALAR] = reason
        notice(f"train: {early.sentence(settings, reason, done.epochs, done.best_epoch, value)}")

    def _stop_before_training(self) -> None:
        """Ends an attempt that a person wants no epoch of: there is one to go on with already, or the run is to end. Raises StopRequested."""
        request = self.loaded.watch.look()
        if request is None or (request.then == stop.EVALUATE and not self.last_epoch):
            return
        if self.last_epoch:
            self._tracked = TrackedTraining(self.context, self.attempt, self.loaded, self.last_epoch)
        raise StopRequested(request)

    def _tell_begin(self, earlier: progress.Progress | None) -> None:
        """Tells that the attempt begins, and of the epoch and the checkpoint within the next one that it goes on from."""
        events, done = self.loaded.events, self.last_epoch
        events.begin(self.attempt.name, self.loaded.config.values["device"], self.epochs, done)
        if earlier is not None and done and done == earlier.epoch:
            checkpoint = next(entry for entry in earlier.checkpoints if not entry.step)
            events.epoch_again(earlier, checkpoint, self._uri(checkpoint))
        if self._uploaded and self._uploaded[0].step:
            events.step(self._uploaded[0], self._uri(self._uploaded[0]))

    def _where(self, checkpoint: progress.Checkpoint) -> str:
        """How far a checkpoint is, in words."""
        if checkpoint.step:
            return f"within epoch {checkpoint.epoch + 1} of {self.epochs}, after step {checkpoint.step} of it"
        return f"after epoch {checkpoint.epoch} of {self.epochs}"

    def _uri(self, checkpoint: progress.Checkpoint) -> str:
        return f"{self.attempt.key_prefix.uri}/{checkpoint.path}"

    def finalise(self, epoch: int, attempt: Attempt) -> Computed:
        """Makes the best and last checkpoints from the newest durable one, as if ``epoch`` had been the last."""
        earlier = progress.read(self.attempt.key_prefix)
        checkpoint = self._fetch_checkpoint(earlier, within_epochs=False) if earlier else None
        done = self._supervise(checkpoint, {**self.loaded.config.values, "epochs": epoch}, listening=False)
        self._times.turn(None)
        computed = self._publish_outputs(done, attempt)
        if self._tracked:
            self._tracked.log_history(done.history)
            self._tracked.attach(done.plots, self.loaded)
            computed.tracking = self._tracked.record()
        return computed

    def end_tracking(self, status: str) -> None:
        """Ends the tracker's run of a training that failed or was stopped, also one that an earlier attempt opened.

        An epoch that became durable at the very end is logged before. A tracker that does not answer takes ``TRACKER_SECONDS`` at most: an engine kills a stage that ends too slowly.
        """
        tracked, prefix, epoch = self._tracked, self.attempt.key_prefix, self._untracked

        def end() -> None:
            if tracked is not None:
                if epoch is not None:
                    tracked.log_epoch(epoch.epoch, epoch.train_metrics, epoch.val_metrics)
                tracked.finish(status)
            else:
                end_left_open(os.environ, prefix, status)

        thread = threading.Thread(target=end, name="tracking", daemon=True)
        thread.start()
        thread.join(TRACKER_SECONDS)

    def _supervise(self, checkpoint: Path | None, config: Mapping[str, Any], *, listening: bool) -> channel.Done:
        folder = Path(tempfile.mkdtemp(prefix="job-", dir=self.attempt.work))
        self._times.turn(None)
        job = make_job(self.context, self.loaded, config, self.batch, self._dataset, folder)
        self._times.turn(DOWNLOAD)
        job = msgspec.structs.replace(
            job, checkpoint=str(checkpoint) if checkpoint else None, lines=self.loaded.events.listens
        )
        variables = child_environment(os.environ, trainer_variables(catalog.trainer(job.trainer)))
        on_epoch = self._on_epoch if listening else lambda _: False
        comparison = ImageComparison(job.trainer, self.loaded.converted.index)
        before = self._reported = self.last_epoch
        done = supervise(
            job,
            folder,
            variables,
            on_batch=self._on_batch,
            on_epoch=on_epoch,
            on_images=comparison.add if listening else lambda _: None,
            on_step=self._on_step,
            on_line=self.loaded.events.line_of_the_trainer,
            on_look=self._look,
        )
        self._times.train_images = comparison.images.get("train", self._times.train_images)
        unreported = [split for split in TRAINED_SPLITS if split not in comparison.reported]
        if unreported and self.last_epoch > before:
            notice(
                f"train: the trainer {job.trainer} does not say which images of the {_splits(unreported)} it uses; whether it left "
                "out any is not checked."
            )
        return done

    def _on_batch(self, batch: channel.Batch) -> None:
        self.context.alive()
        self._times.batch()
        live.emit(
            "batch", stage="train", epoch=batch.epoch, epochs=self.epochs, batch=batch.batch, batches=batch.batches
        )

    def _on_epoch(self, epoch: channel.Epoch) -> bool:
        """Begins to make the checkpoint durable, once that of the epoch before is: the trainer goes on meanwhile."""
        self.context.alive()
        # A second report of an epoch would be written over the checkpoint that the record names by its digest.
        if epoch.epoch != self._reported + 1:
            raise Defect(
                f"The trainer {self.loaded.config.trainer} reported epoch {epoch.epoch} where epoch {self._reported + 1} was next; "
                "it has to report each once, in order, and to go on from the checkpoint that it is given."
            )
        self._reported = epoch.epoch
        good_enough = early.is_good_enough(self.loaded.config.values, epoch.val_metrics)
        if good_enough:
            epoch = msgspec.structs.replace(epoch, stopping=True)
        metric = str(self.loaded.config.values["primary_metric"])
        if (
            epoch.epoch == 1
            and self.loaded.config.values["stop_metric"] is not None
            and metric not in epoch.val_metrics
        ):
            notice(f"train: {metric} is not measured on val, so stop_metric ends nothing.")
        if epoch.left_out:
            notice(
                f"train: the trainer {self.loaded.config.trainer} gives no finite number for {', '.join(epoch.left_out)} "
                f"in epoch {epoch.epoch}; left out."
            )
        self._times.epoch(epoch)
        self._settle()
        self._send(epoch, f"epoch_{epoch.epoch}", functools.partial(self._record, epoch))
        self._times.turn(UPLOAD)
        request = None if self._is_last(epoch) else self.loaded.watch.look()
        if request is not None:
            self._settle()
            raise StopRequested(request)
        return not good_enough

    def _is_last(self, epoch: channel.Epoch) -> bool:
        """Whether the training is complete after an epoch."""
        return epoch.stopping or epoch.epoch >= self.epochs

    def _on_step(self, step: channel.Step) -> None:
        """Begins to make a checkpoint within an epoch durable, as that of an epoch."""
        self.context.alive()
        if step.epoch != self._reported + 1:
            raise Defect(
                f"The trainer {self.loaded.config.trainer} reported a step of epoch {step.epoch} where epoch {self._reported + 1} "
                "is under way; it has to go on from the checkpoint that it is given."
            )
        self._times.turn(EPOCHS)
        self._settle()
        self._send(step, f"epoch_{step.epoch}_step_{step.step}", functools.partial(self._record_step, step))
        self._times.turn(UPLOAD)

    def _send(self, report: channel.Epoch | channel.Step, name: str, record: Callable[[str, Sent], None]) -> None:
        """Sets a checkpoint aside and begins its upload."""
        local = Path(report.checkpoint)
        path = f"{self.attempt.name}/checkpoints/{name}.pt"
        upload = Upload(
            self.attempt.key_prefix,
            self._aside.put(local),
            path,
            _name(report),
            functools.partial(record, path),
        )
        self._sending = report, upload
        upload.begin()
        # The newest stays: the trainer makes its result from it.
        if self._local and self._local != local:
            self._local.unlink(missing_ok=True)
        self._local = local

    def _record(self, epoch: channel.Epoch, path: str, sent: Sent) -> None:
        """Records an uploaded checkpoint; called in the upload's thread, so that it counts at once."""
        reached = progress.Progress(
            attempt=self.attempt.name,
            epoch=epoch.epoch,
            epochs=self.epochs,
            checkpoints=[],
            metrics=_metrics(epoch),
            train_metrics=epoch.train_metrics,
            val_metrics=epoch.val_metrics,
            best_epoch=epoch.best_epoch,
            finished=self._is_last(epoch),
        )
        self._advance(progress.Checkpoint(path, epoch.epoch, sent.size, sent.sha256), reached)

    def _record_step(self, step: channel.Step, path: str, sent: Sent) -> None:
        """Records an uploaded checkpoint within an epoch; what is known is what the epoch before has shown."""
        checkpoint = progress.Checkpoint(path, step.epoch - 1, sent.size, sent.sha256, step.step)
        self._advance(
            checkpoint,
            self._recorded
            or progress.Progress(
                attempt=self.attempt.name, epoch=0, epochs=self.epochs, checkpoints=[], metrics={}, best_epoch=0
            ),
        )

    def _advance(self, checkpoint: progress.Checkpoint, reached: progress.Progress) -> None:
        """Records how far the training is, and removes the checkpoints that nothing needs any more."""
        kept = progress.kept([checkpoint, *self._uploaded])
        self._recorded = msgspec.structs.replace(
            reached,
            attempt=self.attempt.name,
            epoch=checkpoint.epoch,
            step=checkpoint.step,
            checkpoints=kept,
            spent={**self._spent_before, self.context.run.name: round(self.context.limits.seconds, 3)},
        )
        progress.advance(self.attempt.key_prefix, self._recorded)
        self._durable(checkpoint.epoch)
        dropped = [entry.path for entry in self._uploaded if entry not in kept]
        self._uploaded = kept
        self.attempt.key_prefix.delete(dropped)

    def _settle(self) -> None:
        """Waits until the upload under way has ended."""
        if self._sending:
            self._sending[1].wait(self.context.alive)
            self._look()

    def _look(self) -> None:
        """Reports the epoch whose checkpoint has become durable. Raises what its upload met."""
        if self._sending and self._sending[1].ended:
            (report, upload), self._sending = self._sending, None
            self._times.checkpoints += upload.seconds
            upload.check()
            if isinstance(report, channel.Step):
                self._report_step(report)
                return
            self._report(report)
            self._track(report)

    def _report(self, epoch: channel.Epoch) -> None:
        metrics = _metrics(epoch)
        LOGGER.info(
            "epoch %d/%d: %s",
            epoch.epoch,
            self.epochs,
            ", ".join(f"{name} {value:.4g}" for name, value in epoch.val_metrics.items()),
            extra={"fields": {"epoch": epoch.epoch, "total_epochs": self.epochs, "metrics": metrics}},
        )
        live.emit("epoch", stage="train", epoch=epoch.epoch, epochs=self.epochs, metrics=metrics)
        live.argo_progress(epoch.epoch, self.epochs)
        checkpoint = next(entry for entry in self._uploaded if entry.at == (epoch.epoch, 0))
        self.loaded.events.epoch(epoch, checkpoint, self._uri(checkpoint))

    def _report_step(self, step: channel.Step) -> None:
        LOGGER.info("the checkpoint of %s is durable", _name(step))
        checkpoint = next(entry for entry in self._uploaded if entry.at == (step.epoch - 1, step.step))
        self.loaded.events.step(checkpoint, self._uri(checkpoint))

    def _track(self, epoch: channel.Epoch) -> None:
        if self._tracked:
            self._tracked.log_epoch(epoch.epoch, epoch.train_metrics, epoch.val_metrics)

    def end_upload(self) -> None:
        """Ends the upload under way when the training has ended without a result: what gets through in time counts.

        A stage that was asked to end waits ``GRACE_SECONDS`` at most; one whose training failed waits for the upload's own end.
        """
        if self._sending is None:
            return
        (report, upload), self._sending = self._sending, None
        if not upload.begun:
            return
        with contextlib.suppress(VisionloopError):  # asked to end meanwhile
            if not self.context.limits.stopping:
                upload.wait(self.context.alive)
        if not upload.wait(lambda: None, GRACE_SECONDS):
            upload.give_up()
            notice(f"train: the checkpoint of {_name(report)} could not be uploaded in time; it is left out.")
            return
        try:
            upload.check()
        except Exception as error:  # noqa: BLE001 - what ended the training is what the stage ends with
            LOGGER.warning("the checkpoint of %s is lost: %s", _name(report), error)
            return
        if isinstance(report, channel.Epoch):
            self._report(report)
            self._untracked = report
        else:
            self._report_step(report)

    def _durable(self, epoch: int) -> None:
        """Records that an epoch's checkpoint is durable, before anything else can fail."""
        self.last_epoch = max(self.last_epoch, epoch)
        if self.last_epoch:
            self.context.last_successful_epoch = self.last_epoch

    def _earlier_progress(self) -> progress.Progress | None:
        """Returns the progress of an earlier attempt, unless this run has to compute anew and has not begun to."""
        prefix = self.attempt.key_prefix
        earlier = progress.read(prefix)
        if self.context.force and (earlier is None or earlier.attempt not in self.context.attempts):
            prefix.delete([progress.FILE])
            if self.attempt.name == self.context.attempts[0]:
                spent.forget(prefix)
            return None
        return earlier

    def _fetch_checkpoint(self, earlier: progress.Progress, *, within_epochs: bool = True) -> Path | None:
        """Downloads the newest checkpoint that exists and is intact, of an epoch's end or also within one. Returns its local file, or None."""
        for number, checkpoint in enumerate(earlier.checkpoints):
            if checkpoint.step and not within_epochs:
                continue
            local = self.attempt.work / f"resume_{checkpoint.epoch}_{checkpoint.step}.pt"
            try:
                sent = self.attempt.key_prefix.download(checkpoint.path, local, self.context.alive)
            except NotFound:
                continue
            if sent.sha256 == checkpoint.sha256:
                self._uploaded = earlier.checkpoints[number:]
                self._durable(checkpoint.epoch)
                return local
            LOGGER.warning("%s is torn; the checkpoint before it is used.", checkpoint.path)
        return None

    def _make_view(self) -> None:
        cache, trainer = images.ImageCache.of_environment(), catalog.trainer(self.loaded.config.trainer)
        began = time.monotonic()
        # The test images too: an unreadable one must not end the run when the training is paid for.
        count = self.loaded.converted.view(
            self.loaded.snapshot,
            self._dataset,
            cache,
            TRAINED_SPLITS,
            self.context.fetched,
            checked=("test",),
            label_files=getattr(trainer, "label_files", True),
            reduction=reduction_of(self.loaded.config, trainer, self.loaded.converted.task),
        )
        LOGGER.info(
            "%d images in %.1f s, %d of them fetched (%.1f MB)",
            count,
            time.monotonic() - began,
            cache.fetched,
            cache.fetched_bytes / 1e6,
        )

    def _publish_outputs(self, done: channel.Done, attempt: Attempt) -> Computed:
        self.context.alive()
        attempt.upload("best", f"best{Path(done.best).suffix}", Path(done.best), result=True)
        attempt.upload("last", f"last{Path(done.last).suffix}", Path(done.last), result=True)
        attempt.write("history", "history.json", msgspec.json.encode({"epochs": done.history}), result=True)
        for plot in done.plots:
            attempt.upload(f"plot_{Path(plot).stem}", f"plots/{Path(plot).name}", Path(plot), result=False)
        self._times.turn(UPLOAD)
        metrics = _val_metrics(done)
        best, final = metrics.get(done.best_epoch, {}), metrics.get(done.epochs, {})
        # All attempts of all runs held the GPUs, including those that were killed.
        earlier = self.context.limits.used + sum(self._spent_before.values())
        seconds = self.context.limits.seconds + sum(self._spent_before.values())
        gpu_hours = len(done.devices) * seconds / 3600
        return Computed(
            scalars={
                "best_epoch": done.best_epoch,
                "epochs": done.epochs,
                "primary_metric": self.loaded.config.values["primary_metric"],
                "batch_used": done.batch or self.batch,
            },
            metrics={**best, **{f"final_{name}": value for name, value in final.items()}},
            timings={
                "seconds": round(seconds, 3),
                "gpu_hours": round(gpu_hours, 4),
                "earlier_seconds": round(earlier, 3),
                **self._times.timings(done.batch or self.batch),
            },
            versions={**done.versions, "hardware": ", ".join(done.devices) or "CPU"},
        )


def _val_metrics(done: channel.Done) -> dict[int, dict[str, float]]:
    """The metrics on val of each epoch."""
    return {entry["epoch"]: entry.get("val_metrics", {}) for entry in done.history}


def _name(report: channel.Epoch | channel.Step) -> str:
    """What a checkpoint is of, in words."""
    within = f", step {report.step}" if isinstance(report, channel.Step) else ""
    return f"epoch {report.epoch}{within}"


def _metrics(epoch: channel.Epoch) -> dict[str, float]:
    return {**epoch.train_metrics, **epoch.val_metrics}


def _batch(context: Context, loaded: Loaded) -> int:
    """Returns the batch to use: the configured one, or a smaller one after this run's GPU memory ran out."""
    configured = int(str(loaded.config.values["batch"]))
    failure = context.run.failure("train")
    if failure is not None and failure.exit_code == OutOfMemory.exit_code and failure.batch:
        return min(configured, failure.batch)
    return configured


def _splits(names: list[str]) -> str:
    return f"split{'s' if len(names) > 1 else ''} {' and '.join(names)}"
