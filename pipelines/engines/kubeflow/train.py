"""The training pipeline on Kubeflow Pipelines."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from kfp import dsl

from visionloop.components.calls import CALLS, LOOP
from visionloop.components.cleanup.component import cleanup
from visionloop.components.convert.ahead import LOOKED_FOR, NOTHING
from visionloop.components.convert.component import convert
from visionloop.components.evaluate.component import evaluate
from visionloop.components.register.component import register
from visionloop.components.snapshot.component import snapshot
from visionloop.components.train.component import train
from visionloop.components.validate.component import validate
from visionloop.core.policy import FINISHED_POD_SECONDS, RUN_DEADLINE_SECONDS
from visionloop.pipelines.definitions import TRAIN, Pipeline
from visionloop.pipelines.engines.kubeflow.reuse import reuse_evaluation, reuse_training
from visionloop.pipelines.engines.kubeflow.tasks import apply_policy
from visionloop.pipelines.parameters import SETTINGS, Parameter, form, takes
from visionloop.pipelines.targets import DEFAULT_TRAINER, Target

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


def common_to(arguments: PipelineArguments) -> dict[str, Any]:
    """The arguments that every stage gets."""
    return {"workspace": arguments["workspace"], "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}


def after_snapshot(target: Target) -> AfterSnapshot:
    """Returns the function that adds everything after snapshot to a graph."""
    # Made here, because KFP can't make one pipeline while it makes another.
    register_unless_rejected = _registration(target)

    def stages(arguments: PipelineArguments, snapshot: Mapping[str, Any]) -> None:
        row, common = target.policies, common_to(arguments)
        parameters = {**arguments, "settings": snapshot["settings"]}
        looked_for = {name: parameters[name] for name in LOOKED_FOR}
        lineage = {"frozen_dataset": snapshot["frozen_dataset"]}

        receipts = {"snapshot": snapshot["receipt"]}

        def arguments_of(stage: str, **more: Any) -> dict[str, Any]:
            return CALLS[stage].arguments(parameters, {**receipts, **more}) | common

        def judge(name: str, training: Any, trained_model: Any) -> None:
            evaluated = evaluate(trained_model=trained_model, **arguments_of("evaluate", train=training))
            apply_policy(evaluated, "evaluate", target.row("evaluate", name), target)
            register_unless_rejected(
                name,
                verdict=evaluated.outputs["verdict"],
                evaluation_metrics=evaluated.outputs["evaluation_metrics"],
                **arguments_of("register", evaluate=evaluated.outputs["receipt"]),
            )

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

        # What hands on an earlier result reads its receipt, and no dataset.
        shows = replace(row["convert"], secrets=("results",))
        left = converted.outputs["next"]
        earlier_training, earlier_evaluation = (
            converted.outputs["training_receipt"],
            converted.outputs["evaluation_receipt"],
        )

        def show_training() -> Any:
            dataset = converted.outputs["converted_dataset"]
            shown = reuse_training(receipt=earlier_training, converted_dataset=dataset, **common)
            return apply_policy(shown, "reuse training", shows, target).outputs["trained_model"]

        def show_evaluation() -> Any:
            shown = reuse_evaluation(receipt=earlier_evaluation, trained_model=show_training(), **common)
            return apply_policy(shown, "reuse evaluation", shows, target).outputs["evaluation_metrics"]

        with dsl.If(left == NOTHING, name="rejected-before"):
            show_evaluation()
        with _further(dsl.Elif(left == "register", name="evaluated-before"), "left-to-do"):
            metrics = show_evaluation()
            for name, branch in _branches(target, arguments["trainer"]):
                with branch:
                    again = register(
                        evaluation_metrics=metrics, **arguments_of("register", evaluate=earlier_evaluation)
                    )
                    apply_policy(again, "register", target.row("register", name), target)
        with dsl.Elif(left == "evaluate", name="trained-before"):
            shown = show_training()
            for name, branch in _branches(target, arguments["trainer"]):
                with branch:
                    judge(name, earlier_training, shown)
        with dsl.Else(name="train-anew"):
            for name, branch in _branches(target, arguments["trainer"]):
                with branch:
                    dataset = converted.outputs["converted_dataset"]
                    trained = train(converted_dataset=dataset, **arguments_of("train"))
                    apply_policy(trained, "train", target.row("train", name), target)
                    judge(name, trained.outputs["receipt"], trained.outputs["trained_model"])

    return stages


def _registration(target: Target) -> Callable[..., Any]:
    """The last step, under a condition. kfp.local resolves a condition from its DAG's inputs only, so there it gets a DAG."""

    unless = CALLS["register"].condition

    def conditional(trainer: str, verdict: Any, **inputs: Any) -> None:
        with dsl.If(verdict != unless.value, name="good-enough"):
            apply_policy(register(**inputs), "register", target.row("register", trainer), target)

    if target.places:
        return conditional

    @dsl.pipeline(name="register-unless-rejected")
    def register_if_good(
        verdict: str,
        evaluation: str,
        evaluation_metrics: dsl.Input[dsl.Metrics],
        model_name: str,
        storage: str,
        workspace: str,
        run: str,
    ) -> None:
        conditional(
            DEFAULT_TRAINER,
            verdict,
            evaluation=evaluation,
            evaluation_metrics=evaluation_metrics,
            model_name=model_name,
            storage=storage,
            workspace=workspace,
            run=run,
        )

    return lambda trainer, **inputs: register_if_good(**inputs)


def _branches(target: Target, trainer: Any) -> Iterator[tuple[str, AbstractContextManager[Any]]]:
    """A branch for each trainer; the default one takes every unknown name, and reports it itself."""
    others = [name for name in target.trainers if name != DEFAULT_TRAINER]
    for position, name in enumerate(others):
        kind = dsl.Elif if position else dsl.If
        yield name, kind(trainer == name, name=f"with-{name}")
    yield DEFAULT_TRAINER, _further(dsl.Else(name=f"with-{DEFAULT_TRAINER}"), "trainers") if others else nullcontext()


@contextmanager
def _further(branch: Any, around: str) -> Iterator[None]:
    """A further branch of a condition; the group that KFP makes around the branches, and shows by a number, gets a name for people."""
    with branch:
        branch.parent_task_group.display_name = around
        yield
