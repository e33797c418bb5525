"""The training pipeline on Kubeflow Pipelines."""

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from visionloop.components.calls import CALLS, LOOP
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


def pipeline_of(
    target: Target,
    pipeline: Pipeline,
    parameters: Mapping[str, Parameter],
    go_on: AfterSnapshot,
) -> Any:
    """A pipeline that begins with snapshot and ends with cleanup, whatever happened between.

    Args:
        target: The target.
        pipeline: The pipeline.
        parameters: Its form.
        go_on: Adds everything after snapshot to the graph.
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
        common = common_to(arguments)
        cleaned = apply_policy(cleanup(**common), "cleanup", target.policies["cleanup"], target)
        with dsl.ExitHandler(cleaned, name="retraining"):
            inputs = CALLS["snapshot"].arguments(arguments, {})
            inputs |= {name: arguments[name] for name in (*SETTINGS, "advanced_config")}
            frozen = apply_policy(snapshot(**inputs, **common), "snapshot", target.policies["snapshot"], target)
            go_on(arguments, frozen.outputs)

    return graph


def after_snapshot(target: Target) -> AfterSnapshot:
    """Returns the function that adds everything after snapshot to a graph."""
    # Made here, because KFP can't make one pipeline while it makes another.
    left = left_to_do(target)

    def stages(arguments: PipelineArguments, snapshot: Mapping[str, Any]) -> None:
        row, common = target.policies, common_to(arguments)
        parameters = {**arguments, "settings": snapshot["settings"]}
        looked_for = {name: parameters[name] for name in LOOKED_FOR}
        lineage = {"frozen_dataset": snapshot["frozen_dataset"]}

        receipts = {"snapshot": snapshot["receipt"]}

        def arguments_of(stage: str) -> dict[str, Any]:
            return CALLS[stage].arguments(parameters, receipts) | common

        def shards_before(whole: Any, stage: str, component: Callable[..., Any]) -> None:
            """Puts a loop over the shards of a stage before the task that puts them together."""
            if not target.places:
                return  # one machine gains nothing by it
            with dsl.ParallelFor(snapshot["shards"], name=f"{stage}{LOOP}", parallelism=SHARDS_AT_ONCE) as shard:
                part = component(**CALLS[stage].arguments_of_shard(parameters, receipts, shard), **common, **lineage)
                apply_policy(part, stage, row[stage], target).set_display_name(f"{stage} shard")
            whole.after(part)

        checked = validate(**arguments_of("validate"), **lineage)
        apply_policy(checked, "validate", row["validate"], target)
        shards_before(checked, "validate", validate)
        receipts["validate"] = checked.outputs["receipt"]

        converted = convert(look_ahead=True, **arguments_of("convert"), **looked_for, **lineage)
        apply_policy(converted, "convert", row["convert"], target)
        shards_before(converted, "convert", convert)
        receipts["convert"] = converted.outputs["receipt"]

        from_convert = {name: converted.outputs[name] for name in FROM_CONVERT}
        left({**parameters, **from_convert, **{name: receipts[stage] for name, stage in RECEIPTS.items()}})

    return stages
