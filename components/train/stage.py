"""The train stage."""

from __future__ import annotations

import contextlib
import functools
import os

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.train.events import TrainingEvents
from visionloop.components.train.loaded import Arguments, Loaded, fetch_weights, registered, resolve_settings
from visionloop.components.train.training import StopRequested, Training
from visionloop.core import receipts, stop
from visionloop.core.errors import InvalidReceipt, OutOfMemory, Terminated, TimeLimit, UserStopped, VisionloopError
from visionloop.core.folders import temporary_folder
from visionloop.core.logs import notice
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Parameter, Result
from visionloop.core.running import publish
from visionloop.core.stage import Attempt, Computed, Context, Resolution, Stage, key_of
from visionloop.training import configuration, weights
from visionloop.training.tracking import chosen

#: The parameter and scalar of a training that ended before its time: the epoch that it ended after.
STOPPED = "stopped_after_epoch"

#: Where that parameter comes from, when a person stopped the training.
STOPPED_BY_USER = "stopped by the user"


class TrainStage:
    """Trains in a child process; a retry, a second run or another machine resumes from the last durable checkpoint."""

    name = "train"
    logic_version = 1
    policy = POLICIES["train"]
    arguments = Arguments
    description = "Trains a model on a converted dataset, resuming whatever an earlier attempt left behind."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[Loaded]:
        """Resolves the configuration and finds the starting weights before anything is downloaded."""
        events = TrainingEvents(context, os.environ)
        context.at_end = events.ended
        watch = stop.Watch(context.run)
        context.while_following = functools.partial(_stop_following, watch)
        converted_receipt = receipts.load(arguments.converted, "convert", context.workspace)
        snapshot_receipt = receipts.load(arguments.snapshot, "snapshot", context.workspace)
        if converted_receipt.receipt.inputs["snapshot"].digest != snapshot_receipt.receipt.digest:
            raise InvalidReceipt(
                f"{arguments.snapshot}: not the snapshot that {arguments.converted} was converted from; give that one."
            )
        converted, snapshot = Converted(converted_receipt), Snapshot(snapshot_receipt)
        config, trainer = resolve_settings(
            configuration.merge_settings(arguments.set, arguments.settings), converted.task
        )
        chosen(os.environ)
        model = str(config.values["model"])
        with temporary_folder("weights") as folder:
            in_registry = functools.partial(registered, workspace=context.workspace)
            located = weights.locate(model, trainer, os.environ, fetch_weights, folder, in_registry)
        parameters = {name: Parameter(value, config.source(name)) for name, value in config.key_values().items()}
        parameters["model"] = Parameter(located.identity, f"{config.source('model')}: {model}")
        parameters["trainer_version"] = Parameter(trainer.logic_version, "trainer")
        return Resolution(
            inputs={"converted": converted_receipt.reference, "snapshot": snapshot_receipt.reference},
            parameters=parameters,
            notices=list(config.notices),
            loaded=Loaded(arguments, converted, snapshot, config, located, events, watch),
        )

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed | Result:
        """Trains, or finalises a training that was killed after its last epoch; one that was stopped to be evaluated has a key of its own."""
        training = Training(context, resolution, attempt)
        try:
            return self._train(context, resolution, training)
        except BaseException as error:
            training.end_upload()
            if isinstance(error, UserStopped | TimeLimit):
                self._keep_best(context, resolution, training, error)
            elif isinstance(error, OutOfMemory):
                error.batch = max(1, training.batch // 2)
            # A signal is a person's wish where that person has cancelled the run on its engine.
            wanted = isinstance(error, UserStopped) or (
                isinstance(error, Terminated) and stop.is_cancelled(context.run)
            )
            training.end_tracking("cancelled" if wanted else "failed")
            raise

    def _train(self, context: Context, resolution: Resolution[Loaded], training: Training) -> Computed | Result:
        """Trains until the end, or until a person asks for a stop: then the run goes on with the best so far, or ends."""
        try:
            return training.run()
        except StopRequested as asked:
            done = (
                f"after epoch {training.last_epoch} of {training.epochs}"
                if training.last_epoch
                else "before its first epoch"
            )
            if asked.request.then != stop.EVALUATE:
                raise UserStopped(
                    f"train was stopped {done}, as was asked for; start the run again to resume."
                ) from None
            notice(f"train: stopped {done}, as was asked for; the run goes on with the best so far.")
            result = self._publish_stopped(context, resolution, training, STOPPED_BY_USER)
            training.end_tracking("succeeded")
            return result

    def _keep_best(
        self, context: Context, resolution: Resolution[Loaded], training: Training, error: VisionloopError
    ) -> None:
        """Publishes the best checkpoint so far of a training that ends with an error."""
        if not training.last_epoch:
            return
        # The signal that stopped the stage has been handled; finalising takes a few more seconds.
        context.limits.give_time()
        why = "time limit" if isinstance(error, TimeLimit) else STOPPED_BY_USER
        with contextlib.suppress(VisionloopError):
            result = self._publish_stopped(context, resolution, training, why)
            error.receipt = result.uri
            best = result.receipt.scalars["best_epoch"]
            notice(f"The best checkpoint so far (epoch {best} of {training.last_epoch}) is kept: {result.uri}")

    def _publish_stopped(
        self, context: Context, resolution: Resolution[Loaded], training: Training, why: str
    ) -> Result:
        """Publishes the best checkpoint so far under a key of its own, with the epoch, never under that of the whole training."""
        epoch = training.last_epoch
        stopped = Resolution(
            inputs=resolution.inputs,
            parameters={**resolution.parameters, STOPPED: Parameter(epoch, why)},
            loaded=resolution.loaded,
        )
        key = key_of(self, stopped)
        existing = receipts.look(context.workspace, self.name, key)
        if existing is not None and existing.intact():
            return existing
        prefix = context.workspace.child(f"{self.name}/{key}")
        attempt = Attempt(prefix, training.attempt.name, training.attempt.work, context.alive)
        computed = training.finalise(epoch, attempt)
        computed.scalars[STOPPED] = epoch
        return publish(
            self, context, stopped, attempt, computed, training.seconds, key, existing.etag if existing else None
        )


def _stop_following(watch: stop.Watch, run: str) -> None:
    """Ends the waiting for another run's training, where a person has asked for it. Raises UserStopped."""
    if watch.look():
        raise UserStopped(
            f"train was stopped, as was asked for, while it followed the run {run}, whose training goes on; start this run again to follow it."
        )


STAGE: Stage[Arguments, Loaded] = TrainStage()
