"""The training pipeline on Kubeflow Pipelines."""

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from visionloop.components.calls import CALLS, LOOP, Call
from visionloop.components.cleanup.component import cleanup
from visionloop.components.convert.ahead import LOOKED_FOR
from visionloop.components.convert.component import convert
from visionloop.components.snapshot.component import snapshot
from visionloop.components.validate.component import validate
from visionloop.core.policy import FINISHED_POD_SECONDS, RUN_DEADLINE_SECONDS
from visionloop.pipelines.definitions import TRAIN, Pipeline
from visionloop.pipelines.engines.kubeflow.left_to_do import FROM_CONVERT, RECEIPTS, left_to_do
from visionloop.pipelines.engines.kubeflow.tasks import apply_policy, common_to
from visionloop.pipelines.parameters import SETTINGS, Parameter, form, takes
from visionloop.pipelines.targets import Target

#: The shards of a stage that run at once.
SHARDS_AT_ONCE = 16

#: A pipeline's arguments by name, in its graph.
PipelineArguments = Mapping[str, Any]

#: Adds everything after snapshot to a graph, from the pipeline's arguments and snapshot's outputs.
AfterSnapshot = Callable[[PipelineArguments, Mapping[str, Any]], None]


def train_pipeline(target: Target) -> Any:
    """The pipeline for a target, a KFP graph component: compile it, or call it under ``kfp.local``."""
    put_the_rest = after_snapshot(target)

    return pipeline_of(target, TRAIN, form(target.trainers), put_the_rest)


def frozen_for_training(arguments: PipelineArguments) -> dict[str, Any]:
    """Snapshot's arguments in a pipeline that trains: the settings are those of the form."""
    form = {name: arguments[name] for name in (*SETTINGS, "advanced_config")}
    return CALLS["snapshot"].arguments(arguments, {}) | form


def pipeline_of(
    target: Target,
    pipeline: Pipeline,
    parameters: Mapping[str, Parameter],
    go_on: AfterSnapshot,
    frozen_by: Callable[[PipelineArguments], dict[str, Any]] = frozen_for_training,
) -> Any:
    """A pipeline that begins with snapshot and ends with cleanup, whatever happened between.

    Args:
        target: The target.
        pipeline: The pipeline.
        parameters: Its form.
        go_on: Adds everything after snapshot to the graph.
        frozen_by: Snapshot's arguments, from the pipeline's.
    """

    def begin(arguments: PipelineArguments) -> None:
        frozen = snapshot(**frozen_by(arguments), **common_to(arguments))
        go_on(arguments, apply_policy(frozen, "snapshot", target.policies["snapshot"], target).outputs)

    return with_cleanup(target, pipeline, parameters, begin, "retraining")


def with_cleanup(
    target: Target,
    pipeline: Pipeline,
    parameters: Mapping[str, Parameter],
    put: Callable[[PipelineArguments], None],
    group: str,
) -> Any:
    """A pipeline that ends with cleanup, whatever happened before.

    Args:
        target: The target.
        pipeline: The pipeline.
        parameters: Its form.
        put: Adds everything before it to the graph.
        group: What people see for that.
    """

    # After the whole run's limit Argo ends what is left of it, and cleanup still runs.
    limits = dsl.PipelineConfig(
        active_deadline_seconds=RUN_DEADLINE_SECONDS, ttl_seconds_after_finished=FINISHED_POD_SECONDS
    )

    @dsl.pipeline(
        name=pipeline.name,
        description=pipeline.description,
        display_name=pipeline.title,
        pipeline_config=limits if target.places else None,
    )
    @takes(pipeline.description, parameters)
    def graph(*values: Any) -> None:
        arguments = dict(zip(parameters, values, strict=True))
        cleaned = apply_policy(cleanup(**common_to(arguments)), "cleanup", target.policies["cleanup"], target)
        with dsl.ExitHandler(cleaned, name=group):
            put(arguments)

    return graph


def after_snapshot(target: Target) -> AfterSnapshot:
    """Returns the function that adds everything after snapshot to a graph."""
    # Made here, because KFP can't make one pipeline while it makes another.
    left = left_to_do(target)

    def stages(arguments: PipelineArguments, snapshot: Mapping[str, Any]) -> None:
        parameters = {**arguments, "settings": snapshot["settings"]}
        looked_for = {name: parameters[name] for name in LOOKED_FOR}
        receipts = {"snapshot": snapshot["receipt"]}
        tasks = checked_and_converted(target, CALLS, parameters, snapshot, receipts, look_ahead=True, **looked_for)
        from_convert = {name: tasks["convert"].outputs[name] for name in FROM_CONVERT}
        left({**parameters, **from_convert, **{name: receipts[stage] for name, stage in RECEIPTS.items()}})

    return stages


def checked_and_converted(
    target: Target,
    calls: Mapping[str, Call],
    parameters: PipelineArguments,
    snapshot: Mapping[str, Any],
    receipts: dict[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Adds validate and convert to a graph, each behind the loop over its shards; returns both tasks by stage.

    Args:
        target: The target.
        calls: The pipeline's table of calls.
        parameters: Its arguments by name.
        snapshot: Snapshot's outputs.
        receipts: The receipts so far by stage, to which those of both are added.
        more: Further arguments of convert.
    """
    row, common, lineage = target.policies, common_to(parameters), {"frozen_dataset": snapshot["frozen_dataset"]}

    def put(stage: str, component: Callable[..., Any], **further: Any) -> Any:
        arguments = calls[stage].arguments(parameters, receipts)
        whole = component(**arguments, **further, **common, **lineage)
        apply_policy(whole, stage, row[stage], target)
        if target.places:  # one machine gains nothing by shards
            with dsl.ParallelFor(snapshot["shards"], name=f"{stage}{LOOP}", parallelism=SHARDS_AT_ONCE) as shard:
                part = component(**calls[stage].arguments_of_shard(parameters, receipts, shard), **common, **lineage)
                apply_policy(part, stage, row[stage], target).set_display_name(f"{stage} shard")
            whole.after(part)
        receipts[stage] = whole.outputs["receipt"]
        return whole

    return {"validate": put("validate", validate), "convert": put("convert", convert, **more)}
