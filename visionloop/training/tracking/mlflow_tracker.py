"""MLflow: one run there for a training, however many attempts it takes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.training.configuration.settings import display
from visionloop.training.tracking.address import shown
from visionloop.training.tracking.artifacts import put_artifacts
from visionloop.training.tracking.choice import switched_off
from visionloop.training.tracking.connection import connect, error_code, is_server, mlflow_errors, tracking_uri
from visionloop.training.tracking.system_metrics import SystemMetrics, interval
from visionloop.training.tracking.tracker import Tracker, TrackerRun, TrainingDescription

#: The folder of the artifacts of experiments that are made in a run on folders; the embedded MLflow reads no other.
ARTIFACTS_VARIABLE = "VISIONLOOP_ARTIFACTS"

#: MLflow's longest parameter value, tag value and dataset digest, in characters.
LONGEST_PARAMETER = 6000
LONGEST_TAG = 5000
LONGEST_DIGEST = 36

#: Metrics, parameters and tags in one request (MLflow's limits are 1000 in all and 100 each of the last two).
PARAMETERS_PER_REQUEST = 100

#: Logged in the same request as each epoch's metrics; shows which epochs MLflow already has.
CURSOR = "epoch"

#: What MLflow 3's page shows an experiment as: one in which models are trained (its page calls the value
#: ``CUSTOM_MODEL_DEVELOPMENT``; without it, it guesses).
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

#: What MLflow's page shows as a run's description.
DESCRIPTION_TAG = "mlflow.note.content"

#: MLflow's codes for a run that it does not have.
_NO_RUN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

#: The tag with the artifacts that its page shows in a way of their own.
LOGGED_ARTIFACTS = "mlflow.loggedArtifacts"

#: States of a run as MLflow spells them.
STATES = {
    "succeeded": "FINISHED",
    "completed": "FINISHED",
    "failed": "FAILED",
    "cancelled": "KILLED",
    "stopped": "KILLED",
}


class MlflowTracker:
    """The tracker."""

    name = "mlflow"

    def why_off(self, environment: Mapping[str, str]) -> str | None:
        """Off without an MLflow, and with MLFLOW_ENABLED=false."""
        if not tracking_uri(environment):
            return "MLFLOW_TRACKING_URI is not set."
        return switched_off(environment, "MLFLOW_ENABLED")

    def check(self, environment: Mapping[str, str]) -> None:
        """Raises InvalidConfig for an interval that is none.

        An address that can't be used is told, and never ends a training: MLflow is tracked to by default.
        """
        interval(environment)

    def requirements(self, environment: Mapping[str, str]) -> Sequence[str]:
        """Every installation has its client; what a database needs besides is told when it is opened."""
        return ()

    def open(self, environment: Mapping[str, str], training: TrainingDescription) -> TrackerRun:
        """The run; it connects to nothing yet."""
        return MlflowRun(environment, training)

    def end(self, environment: Mapping[str, str], entry: Mapping[str, Any], status: str) -> None:
        """Ends a run; one that has failed, was stopped or is gone stays as it is.

        Raises:
            VisionloopError: If MLflow is down or refuses.
        """
        from mlflow.exceptions import MlflowException

        run_id = str(entry["run_id"])
        client = connect(environment)
        with mlflow_errors(tracking_uri(environment)):
            try:
                run = client.get_run(run_id)
            except MlflowException as error:
                if error_code(error) in _NO_RUN:
                    return
                raise
            if run.info.lifecycle_stage == "active" and run.info.status not in ("FAILED", "KILLED"):
                client.set_terminated(run_id, STATES.get(status, status))

    def add(
        self,
        environment: Mapping[str, str],
        entry: Mapping[str, Any],
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
    ) -> None:
        """Adds metrics and files to a run that may have ended; a metric that it has already stays one value.

        Raises:
            VisionloopError: If MLflow, or the store of its artifacts, is down or refuses.
        """
        client = connect(environment)
        with mlflow_errors(tracking_uri(environment)):
            run = client.get_run(str(entry["run_id"]))
            new = {name: value for name, value in metrics.items() if run.data.metrics.get(_metric_name(name)) != value}
            if new:
                client.log_batch(run.info.run_id, metrics=_metrics(new, 0))
            put_artifacts(client, run, files)
            _show_tables(client, run, files)


def _show_tables(client: Any, run: Any, files: Mapping[str, bytes]) -> None:
    """Names the files below ``tables/`` in the run's tag by which MLflow's page shows them as tables, as its own client does."""
    known = json.loads(run.data.tags.get(LOGGED_ARTIFACTS, "[]"))
    new = [{"path": path, "type": "table"} for path in files if path.startswith("tables/")]
    if added := [entry for entry in new if entry not in known]:
        client.set_tag(run.info.run_id, LOGGED_ARTIFACTS, json.dumps([*known, *added]))


class MlflowRun:
    """A run in MLflow, used through its client only: mlflow's global state is not touched."""

    def __init__(self, environment: Mapping[str, str], training: TrainingDescription) -> None:
        """Connects to nothing."""
        self._environment, self._training = environment, training
        self._uri = tracking_uri(environment)
        # A run that an engine injected is never resumed as ours, even if it is passed in.
        earlier = training.earlier.get("run_id")
        self._wanted = earlier if earlier != environment.get("MLFLOW_RUN_ID") else None
        self._client: Any = None
        self._experiment_id = ""
        self._logged: set[int] = set()
        self._system: SystemMetrics | None = None
        self.run_id: str | None = None

    def start(self) -> None:
        """Opens or resumes the run, and logs the training's description.

        Raises:
            VisionloopError: If MLflow is down or refuses.
        """
        self._client = self._client or connect(self._environment)
        with mlflow_errors(self._uri):
            run = self._existing_run()
            if run is None:
                run = self._new_run(self._training.name)
            self.run_id, self._experiment_id = run.info.run_id, run.info.experiment_id
            self._wanted = self.run_id  # a second try after a failure below resumes it
            self._logged = self._logged_epochs()
            self._describe(run)
            if not run.inputs.dataset_inputs:
                self._log_datasets(self._training.dataset_hash, self._training.dataset_uris)
        if seconds := interval(self._environment):
            self._system = SystemMetrics(self._client, run.info.run_id, seconds)
            self._system.start()

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Logs the metrics of those that MLflow lacks, each epoch in one request."""
        for epoch, metrics in epochs.items():
            if epoch in self._logged:
                continue
            with mlflow_errors(self._uri):
                self._client.log_batch(self.run_id, metrics=_metrics({**metrics, CURSOR: float(epoch)}, epoch))
            self._logged.add(epoch)

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Puts files on the run's page, by their paths there."""
        with mlflow_errors(self._uri):
            put_artifacts(self._client, self._client.get_run(self.run_id), files)

    def finish(self, status: str) -> None:
        """Ends the run."""
        if self._system is not None:
            self._system.stop()
        with mlflow_errors(self._uri):
            self._client.set_terminated(self.run_id, STATES.get(status, status))

    def entry(self) -> dict[str, Any]:
        """The run's id, and the address of its page if a server has one."""
        page = f"{shown(self._uri).rstrip('/')}/#/experiments/{self._experiment_id}/runs/{self.run_id}"
        return {"run_id": self.run_id, "url": page if self.run_id and is_server(self._uri) else None}

    def _existing_run(self) -> Any:
        """The run of an earlier attempt, made active again; None if there is none or it was deleted."""
        from mlflow.exceptions import MlflowException

        if not self._wanted:
            return None
        try:
            run = self._client.get_run(self._wanted)
        except MlflowException as error:
            if error_code(error) in _NO_RUN:
                return None
            raise
        if run.info.lifecycle_stage != "active":
            return None
        self._client.update_run(self._wanted, status="RUNNING")
        return run

    def _new_run(self, name: str) -> Any:
        tags = {}
        parent = self._injected_run()
        if parent is not None:
            tags["mlflow.parentRunId"] = parent.info.run_id
        experiment = parent.info.experiment_id if parent is not None else self._experiment_of_name()
        return self._client.create_run(experiment, tags=tags, run_name=name)

    def _injected_run(self) -> Any:
        """The run that KFP made for its task (MLFLOW_RUN_ID), if this MLflow has it: ours becomes its child.

        Several tasks and attempts get the same run, so nothing is logged into it.
        """
        from mlflow.exceptions import MlflowException

        injected = self._environment.get("MLFLOW_RUN_ID", "").strip()
        if not injected:
            return None
        try:
            run = self._client.get_run(injected)
        except MlflowException as error:
            if error_code(error) in _NO_RUN:
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _experiment_of_name(self) -> str:
        """The experiment's id, of a new one where there is none of the name."""
        from mlflow.exceptions import MlflowException

        if experiment_id := self._environment.get("MLFLOW_EXPERIMENT_ID", "").strip():
            return experiment_id
        name = self._environment.get("MLFLOW_EXPERIMENT_NAME", "").strip() or self._training.experiment
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                location = self._location()
                return str(self._client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))
            except MlflowException as error:
                if error_code(error) != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = self._client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            raise InvalidConfig(
                f"MLflow's experiment '{name}' was deleted; restore it or set MLFLOW_EXPERIMENT_NAME to another."
            )
        for tag, value in EXPERIMENT_TAGS.items():
            if tag not in experiment.tags:
                self._client.set_experiment_tag(experiment.experiment_id, tag, value)
        return str(experiment.experiment_id)

    def _location(self) -> str:
        """Where a new experiment keeps its artifacts: in the results store, in a run on folders in the home."""
        own = self._environment.get(ARTIFACTS_VARIABLE, "").strip()
        workspace = self._training.workspace
        return f"{workspace}/mlflow" if workspace.startswith("s3://") or not own else Path(own).as_uri()

    def _logged_epochs(self) -> set[int]:
        """The epochs that MLflow already has: log_batch would add a second value to each."""
        return {metric.step for metric in self._client.get_metric_history(self.run_id, CURSOR)}

    def _describe(self, run: Any) -> None:
        """Logs parameters (an existing one can't be changed) and tags."""
        from mlflow.entities import Param, RunTag

        existing = run.data.params
        params, tags = self._training.params, dict(self._training.tags)
        if self._training.description:
            tags[DESCRIPTION_TAG] = self._training.description
        wanted = {_parameter_name(name): display(value)[:LONGEST_PARAMETER] for name, value in params.items()}
        new = [Param(name, value) for name, value in sorted(wanted.items()) if name not in existing]
        labels = [RunTag(name, value[:LONGEST_TAG]) for name, value in sorted(tags.items())]
        for start in range(0, max(len(new), len(labels)), PARAMETERS_PER_REQUEST):
            end = start + PARAMETERS_PER_REQUEST
            self._client.log_batch(self.run_id, params=new[start:end], tags=labels[start:end])

    def _log_datasets(self, dataset_hash: str, uris: Sequence[str]) -> None:
        """The datasets as the run's inputs; MLflow's digest has 36 characters, so the source holds the whole hash."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        names = [uri.rstrip("/").rpartition("/")[2] for uri in uris]
        # MLflow takes two datasets of one name and digest for one.
        names = names if len(set(names)) == len(names) else list(uris)
        datasets = [
            Dataset(
                name=name[:500] or "dataset",
                digest=dataset_hash[:LONGEST_DIGEST],
                source_type="s3" if uri.startswith("s3://") else "local",
                source=json.dumps({"uri": uri, "sha256": dataset_hash}),
            )
            for uri, name in zip(uris, names, strict=True)
        ]
        tags = [InputTag("mlflow.data.context", "training")]
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, tags=tags) for dataset in datasets])


def _metrics(values: Mapping[str, float], step: int) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(_metric_name(name), float(value), now, step) for name, value in sorted(values.items())]


def _metric_name(name: str) -> str:
    """A metric's name in the characters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)


def _parameter_name(name: str) -> str:
    return _metric_name(name)[:250]


TRACKER: Tracker = MlflowTracker()
