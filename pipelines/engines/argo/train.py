"""The training pipeline on Argo Workflows: one reusable template for each stage, and the DAG over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hera.workflows import DAG, Step, Steps, Task, WorkflowTemplate
from hera.workflows.models import (
    LabelValueFrom,
    Mutex,
    PodDisruptionBudgetSpec,
    PodGC,
    Synchronization,
    TemplateRef,
    TTLStrategy,
    WorkflowMetadata,
)

from visionloop.components.calls import CALLS, SETTINGS
from visionloop.components.convert.ahead import FINDS, LOOKED_FOR, LOOKS_AHEAD, NOTHING
from visionloop.core import catalog
from visionloop.core.policy import FINISHED_POD_SECONDS, RUN_DEADLINE_SECONDS, StagePolicy
from visionloop.pipelines.definitions import TRAIN, Pipeline
from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.argo.templates import (
    SANITISED,
    Field,
    fields_of,
    gpus,
    shown_as,
    spot,
    stage_template,
)
from visionloop.pipelines.parameters import SETTINGS as FORM_SETTINGS
from visionloop.pipelines.parameters import Parameter as FormParameter
from visionloop.pipelines.parameters import form
from visionloop.pipelines.targets import DEFAULT_TRAINER, Target

#: Each stage's output parameters.
OUTPUTS: Mapping[str, Sequence[str]] = {
    **{stage: ("receipt", *call.outputs) for stage, call in CALLS.items()},
    LOOKS_AHEAD: ("receipt", *FINDS),
    "cleanup": (),
}

#: Where training and evaluation run: fields of the form that only Argo has.
PLACES = (
    Field("gpus", "", "GPUs of training and evaluation; empty takes the policy's, 0 runs them on the CPU."),
    Field(
        "spot",
        "",
        "Attempts of training and evaluation on spot nodes before those on others; empty takes the policy's, 0 uses none.",
    ),
)

#: What ties a run to its caller.
TRACE = Field("trace_id", "", "The trace id, in every log line, receipt and tag; empty takes the workflow's uid.")
_TRACE = "workflow.parameters.trace_id == '' ? workflow.uid : workflow.parameters.trace_id"

#: A run's labels, and the expression of each.
_SOURCE = "workflow.parameters.dataset == '' ? workflow.parameters.snapshot : workflow.parameters.dataset"
LABELS = {
    pods.MODEL_LABEL: "workflow.parameters.model_name",
    pods.DATASET_LABEL: f"sprig.base(sprig.trimSuffix('/', {_SOURCE}))",
    pods.TRACE_LABEL: _TRACE,
}


#: The step that failed first, with the engine's message, in at most 500 characters. Argo quotes the list of failures twice.
FIRST_FAILURE = (
    "let told = sortBy(filter(fromJSON(fromJSON(workflow.failures)) ?? [], .message != ''), .finishedAt); "
    "len(told) > 0 ? sprig.trunc(500, told[0].displayName + ': ' + told[0].message) : ''"
)


def _explicit_settings() -> str:
    """The form's settings as a JSON object, without those that are empty or the form's default, which does not count as chosen.

    The trainer is always in it, for it decides the image. Argo's ``toJson`` can't write an object made in an expression.
    """
    rows = []
    for name in (*FORM_SETTINGS, "advanced_config"):
        default = "" if name == "trainer" else TRAIN.parameters[name].text
        rows.append(f"['{name}', workflow.parameters.{name}, '{default}']")
    chosen = f"filter([{', '.join(rows)}], #[1] not in [#[2], ''])"
    return f"{{{{='{{' + join(map({chosen}, toJson(#[0]) + ': ' + toJson(#[1])), ', ') + '}}'}}}}"


def train_templates(target: Target) -> list[WorkflowTemplate]:
    """The pipeline's template and those of its stages; train's own is in the pipeline's, which has its name."""
    return [train_template(target), *(_reusable(name, target) for name in OUTPUTS if name != "train")]


def train_template(target: Target) -> WorkflowTemplate:
    """The DAG, with a train template for each trainer, with the trainer's row and image."""
    with pipeline_template(TRAIN, form(target.trainers)) as template:
        for trainer, row in target.trainers.items():
            stage_template(
                catalog.stage("train"),
                row,
                target,
                name=_train(trainer),
                outputs=OUTPUTS["train"],
                synchronization=Synchronization(
                    mutexes=[
                        Mutex(name=f"visionloop-train-{{{{={SANITISED.format('inputs.parameters.model_name')}}}}}")
                    ]
                ),
            )
        with DAG(name="pipeline"):
            freeze(TRAIN.parameters)
            tasks_after_snapshot(target, output_of("snapshot"), ("snapshot",))
        exit_steps()
    return template


def pipeline_template(pipeline: Pipeline, parameters: Mapping[str, FormParameter]) -> WorkflowTemplate:
    """A pipeline's template with its form; the caller adds a DAG named pipeline, and the steps of ``exit_steps``."""
    fields = [*(Field.of(parameter) for parameter in parameters.values()), *PLACES, TRACE]
    return WorkflowTemplate(
        name=pipeline.name,
        annotations=dict(shown_as(pipeline.title, pipeline.description)),
        labels={"app.kubernetes.io/name": "visionloop"},
        entrypoint="pipeline",
        on_exit="exit",
        arguments=[field.argument() for field in fields],
        active_deadline_seconds=RUN_DEADLINE_SECONDS,
        # A node that is drained waits for the stage that runs on it.
        pod_disruption_budget=PodDisruptionBudgetSpec(min_available=1),  # type: ignore[arg-type] # a number is an IntOrString
        **_housekeeping(),
        workflow_metadata=WorkflowMetadata(
            labels={"app.kubernetes.io/name": "visionloop"},
            labels_from={
                label: LabelValueFrom(expression=SANITISED.format(source)) for label, source in LABELS.items()
            },
        ),
    )


def exit_steps() -> None:
    """Adds the steps that run at the end, whatever happened."""
    with Steps(name="exit"):
        Step(
            name="cleanup",
            template_ref=_reference("cleanup"),
            arguments=_common()
            | {"engine_status": "{{workflow.status}}", "engine_failure": f"{{{{={FIRST_FAILURE}}}}}"},
        )


def freeze(form: Mapping[str, FormParameter]) -> None:
    """Adds the first task, with the parameters of the form that it takes."""
    parameters = {**_parameters(*form), SETTINGS: _explicit_settings()}
    _task("snapshot", (), CALLS["snapshot"].arguments(parameters, {}))


def tasks_after_snapshot(
    target: Target, snapshot: str, after: Sequence[str] = (), trained_by: str | None = None
) -> None:
    """Adds every other task.

    Args:
        target: The target.
        snapshot: The URI of snapshot's receipt, as Argo writes it.
        after: The tasks of the same DAG that they wait for.
        trained_by: The WorkflowTemplate that holds the train templates, by default this one.
    """
    receipts = {"snapshot": snapshot, "validate": output_of("validate"), "convert": output_of("convert")}
    form = {**_parameters(*TRAIN.parameters), SETTINGS: _explicit_settings()}
    left, trains = reference_to("convert", "next"), {name: _train(name) for name in target.trainers}
    chosen = {name: f"{left} == 'train'{_and_chosen(name, target)}" for name in target.trainers}
    # Only the branch that applies is evaluated, so the output of a skipped task is never read.
    training = reference_to("convert", "training_receipt")
    for trainer, task in trains.items():
        training = f"{chosen[trainer]} ? {reference_to(task, 'receipt')} : ({training})"
    receipts["train"] = f"{{{{={training}}}}}"
    earlier_evaluation, evaluated = reference_to("convert", "evaluation_receipt"), reference_to("evaluate", "receipt")
    receipts["evaluate"] = f"{{{{={left} == 'register' ? {earlier_evaluation} : {evaluated}}}}}"

    def arguments_of(stage: str) -> dict[str, str]:
        return CALLS[stage].arguments(form, receipts)

    _task("validate", after, arguments_of("validate"))
    _task("convert", (*after, "validate"), {**arguments_of("convert"), **{name: form[name] for name in LOOKED_FOR}})
    for trainer, task in trains.items():
        _task(
            "train",
            (*after, "convert"),
            {**arguments_of("train"), **_places(target.trainers[trainer])},
            name=task,
            when=f"{{{{={chosen[trainer]}}}}}",
            template=TemplateRef(name=trained_by, template=task) if trained_by else task,
        )
    _task(
        "evaluate",
        (*after, "convert", *trains.values()),
        {**arguments_of("evaluate"), **_places(target.policies["evaluate"]), "image": _evaluation_image(target)},
        when=f"{{{{={left} in ['train', 'evaluate']}}}}",
    )
    unless = CALLS["register"].condition
    rejected = f"{reference_to(unless.stage, unless.scalar)} != '{unless.value}'"
    _task(
        "register",
        ("convert", "evaluate"),
        arguments_of("register"),
        when=f"{{{{={left} == 'register' || ({left} != '{NOTHING}' && {rejected})}}}}",
    )


def _reusable(name: str, target: Target) -> WorkflowTemplate:
    """One stage's template, which other workflows refer to or a person submits by itself."""
    stage = catalog.stage(name)
    policy = target.policies[name]
    more: dict[str, Any] = {}
    if name == "convert":
        own = [Field(parameter, "", "As train and evaluate take it.") for parameter in LOOKED_FOR]
        more = {
            "inputs": own,
            "words": [f"--ahead={field.name}={{{{inputs.parameters.{field.name}}}}}" for field in own],
        }
    if name == "evaluate":
        image = target.image(target.evaluate(DEFAULT_TRAINER))
        more = {
            "inputs": [Field("image", image, "The image of the trainer that wrote the checkpoint.")],
            "image": "{{inputs.parameters.image}}",
        }
    with WorkflowTemplate(
        name=f"visionloop-{name}",
        annotations=dict(shown_as(f"Visionloop: {name}", stage.description)),
        labels={"app.kubernetes.io/name": "visionloop", pods.STAGE_LABEL: name},
        entrypoint=name,
        arguments=[field.argument() for field in fields_of(stage, policy, more.get("inputs", ()))],
        **_housekeeping(),
    ) as template:
        stage_template(stage, policy, target, outputs=OUTPUTS[name], **more)
    return template


def _housekeeping() -> dict[str, Any]:
    return {
        "pod_gc": PodGC(strategy="OnPodCompletion", delete_delay_duration=f"{FINISHED_POD_SECONDS}s"),
        "ttl_strategy": TTLStrategy(seconds_after_completion=FINISHED_POD_SECONDS),
    }


def _task(
    stage: str,
    after: Sequence[str],
    arguments: Mapping[str, str],
    *,
    name: str | None = None,
    when: str | None = None,
    template: TemplateRef | str | None = None,
) -> Task:
    return Task(
        name=name or stage,
        depends=" && ".join(after) or None,
        when=when,
        template=template if isinstance(template, str) else None,
        template_ref=template if isinstance(template, TemplateRef) else None if template else _reference(stage),
        arguments=_common() | dict(arguments),
    )


def _reference(stage: str) -> TemplateRef:
    return TemplateRef(name=f"visionloop-{stage}", template=stage)


def _common() -> dict[str, str]:
    return {**_parameters("workspace"), TRACE.name: f"{{{{={_TRACE}}}}}"}


def _parameters(*names: str) -> dict[str, str]:
    return {name: f"{{{{workflow.parameters.{name}}}}}" for name in names}


def _places(policy: StagePolicy) -> dict[str, str]:
    """The form's values of PLACES for a row that has them; where they are empty, the row's own."""
    own = {field.name: field.default for field in (*gpus(policy), *spot(policy))}
    return {
        name: f"{{{{=workflow.parameters.{name} == '' ? '{default}' : workflow.parameters.{name}}}}}"
        for name, default in own.items()
    }


def output_of(task: str, name: str = "receipt") -> str:
    """A task's output in a DAG, as Argo writes it."""
    return f"{{{{tasks.{task}.outputs.parameters.{name}}}}}"


def reference_to(task: str, output: str) -> str:
    """A task's output in an expression."""
    return f"tasks['{task}'].outputs.parameters.{output}"


def _train(trainer: str) -> str:
    return "train" if trainer == DEFAULT_TRAINER else f"train-{trainer}"


def _and_chosen(trainer: str, target: Target) -> str:
    """The condition that the form names a trainer; the default one takes every unknown name, and reports it itself."""
    if trainer != DEFAULT_TRAINER:
        return f" && workflow.parameters.trainer == '{trainer}'"
    return "".join(f" && workflow.parameters.trainer != '{name}'" for name in target.trainers if name != trainer)


def _evaluation_image(target: Target) -> str:
    image = target.image(target.evaluate(DEFAULT_TRAINER))
    others = [trainer for trainer in target.trainers if trainer != DEFAULT_TRAINER]
    if not others:
        return image
    picked = f"'{image}'"
    for trainer in others:
        own = target.image(target.evaluate(trainer))
        picked = f"workflow.parameters.trainer == '{trainer}' ? '{own}' : ({picked})"
    return f"{{{{={picked}}}}}"
