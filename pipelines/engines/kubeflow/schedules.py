"""Schedules on Kubeflow Pipelines: recurring runs of a pipeline's uploaded version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.engines.kubeflow import runs as kubeflow
from visionloop.pipelines.engines.kubeflow.client import connect, quiet
from visionloop.pipelines.engines.schedules import Schedule, next_time
from visionloop.pipelines.following.cron import Cron, zone_named

#: The start of the description of each of Visionloop's recurring runs; the pipeline's name follows.
DESCRIPTION = "Visionloop schedule of "

#: KFP's cron expression has a field for the second before the five.
SECOND = "0 "

_PAGE_SIZE = 100


class KubeflowSchedules:
    """The recurring runs of an installation, or of a user's namespace (``schedules.Schedules``)."""

    def __init__(self, host: str | None = None, namespace: str | None = None) -> None:
        """``host`` and ``namespace`` are those of ``kubeflow_client.connect``.

        Raises:
            InvalidConfig: If no server is configured.
            AccessDenied: If it refuses the caller.
            Transient: If it can't be reached.
        """
        self._connection = connect(host, namespace)

    def create(self, name: str, pipeline: str, arguments: Mapping[str, Any], cron: Cron, timezone: str) -> Schedule:
        """Uploads the pipeline as it compiles here, unless the server has it, and makes a recurring run of that version.

        Raises:
            InvalidConfig: If a time zone is given, a schedule of that name exists, or an argument doesn't fit.
        """
        if zone_named(timezone) is not UTC:
            raise InvalidConfig(
                f"--timezone {timezone}: Kubeflow Pipelines keeps one time zone for all schedules (UTC, unless CRON_SCHEDULE_TIMEZONE of its controller says otherwise); leave it out and give the times in that one."
            )
        compiled = kubeflow.compiled_pipeline(pipeline)
        values = kubeflow.typed(arguments, compiled)
        if any(recurring.display_name == name for recurring in self._recurring_runs()):
            raise InvalidConfig(
                f"{self._connection.host}: there is a schedule {name} already; delete it first, or give another name."
            )
        version = kubeflow.upload(self._connection, compiled)
        experiment = kubeflow.experiment(self._connection, str(values.get("model_name") or compiled.name))
        with self._connection.asking(), quiet():
            made = self._connection.client.create_recurring_run(
                experiment_id=experiment,
                job_name=name,
                description=f"{DESCRIPTION}{compiled.name}. {compiled.description}",
                cron_expression=f"{SECOND}{cron.text}",
                max_concurrency=1,
                no_catchup=True,
                params=values,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                enable_caching=False,
            )
        return self._schedule(made)

    def list(self) -> list[Schedule]:
        """Every recurring run that Visionloop made."""
        return sorted(
            (self._schedule(recurring) for recurring in self._recurring_runs()), key=lambda schedule: schedule.name
        )

    def pause(self, name: str) -> None:
        """Disables it; a run in progress is left alone."""
        with self._connection.asking():
            self._connection.client.disable_recurring_run(self._id(name))

    def resume(self, name: str) -> None:
        """Enables it; the last of the starts missed meanwhile is made up for."""
        with self._connection.asking():
            self._connection.client.enable_recurring_run(self._id(name))

    def delete(self, name: str) -> None:
        """Deletes it; its runs stay."""
        with self._connection.asking():
            self._connection.client.delete_recurring_run(self._id(name))

    def _id(self, name: str) -> str:
        for recurring in self._recurring_runs():
            if recurring.display_name == name:
                return str(recurring.recurring_run_id)
        raise InvalidConfig(f"{self._connection.host}: there is no schedule {name}; see `visionloop schedule list`.")

    def _recurring_runs(self) -> Iterator[Any]:
        token = ""
        while True:
            with self._connection.asking():
                page = self._connection.client.list_recurring_runs(
                    page_token=token, page_size=_PAGE_SIZE, namespace=self._connection.namespace
                )
            yield from (
                recurring
                for recurring in page.recurring_runs or ()
                if (recurring.description or "").startswith(DESCRIPTION)
            )
            token = page.next_page_token or ""
            if not token:
                return

    def _schedule(self, recurring: Any) -> Schedule:
        trigger = recurring.trigger
        schedule = trigger.cron_schedule if trigger else None
        cron = (schedule.cron or "").removeprefix(SECOND) if schedule else ""
        paused = recurring.status == "DISABLED" or (recurring.status is None and recurring.mode == "DISABLE")
        config = recurring.runtime_config
        return Schedule(
            name=str(recurring.display_name),
            pipeline=(recurring.description or "").removeprefix(DESCRIPTION).split(".")[0],
            cron=cron,
            timezone=None,
            state="paused" if paused else "active",
            last=self._last(str(recurring.recurring_run_id)),
            next=next_time(cron, None, paused),
            model_name=((config.parameters if config else None) or {}).get("model_name"),
        )

    def _last(self, recurring_run: str) -> datetime | None:
        criteria = {"predicates": [{"operation": 1, "key": "recurring_run_id", "stringValue": recurring_run}]}
        with self._connection.asking():
            runs = self._connection.client.list_runs(
                page_size=1,
                sort_by="created_at desc",
                namespace=self._connection.namespace,
                filter=json.dumps(criteria),
            ).runs
        return (runs[0].scheduled_at or runs[0].created_at) if runs else None
