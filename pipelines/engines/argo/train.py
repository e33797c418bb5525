"""The training pipeline on Argo Workflows: one reusable template for each stage, and the DAG over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hera.workflows import DAG, Step, Steps, Task, WorkflowTemplate
from hera.workflows.models import (
    LabelValueFrom,
    Metadata,
    Mutex,
    PodDisruptionBudgetSpec,
    PodGC,
    Synchronization,
    TemplateRef,
    TTLStrategy,
    WorkflowMetadata,
)

from visionloop.components.calls import CALLS, LOOP, PREDICTED, SETTINGS, SHARDS, Call
from visionloop.components.convert.ahead import FINDS, LOOKED_FOR, LOOKS_AHEAD
from visionloop.core import catalog
from visionloop.core.errors import InvalidConfig
from visionloop.core.names import sanitise
from visionloop.core.policy import FINISHED_POD_SECONDS, RUN_DEADLINE_SECONDS, StagePolicy
from visionloop.pipelines.definitions import TRAIN, Pipeline
from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.argo.templates import (
    SANITISED,
    Field,
    fields_of,
    gpus,
    label_value,
    shown_as,
    spot,
    stage_template,
)
from visionloop.pipelines.parameters import SETTINGS as FORM_SETTINGS
from visionloop.pipelines.parameters import Parameter as FormParameter
from visionloop.pipelines.parameters import form
from visionloop.pipelines.targets import BY_TRAINER, DEFAULT_TRAINER, Target

#: Each stage's output parameters.
OUTPUTS: Mapping[str, Sequence[str]] = {
    **{stage: ("receipt", *call.outputs) for stage, call in {**CALLS, **PREDICTED}.items()},
    LOOKS_AHEAD: ("receipt", *FINDS),
    "cleanup": (),
}

#: Where training and evaluation run: fields of the form that only Argo has.
PLACES = (
    Field(
        "gpus",
        "",
        "GPUs of the training; an evaluation has one of them. Empty takes the policy's, 0 runs both on the CPU.",
    ),
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
    pods.TRAINER_LABEL: "workflow.parameters.trainer",
}

#: Those that every pod of the run gets from it. What a stage's template tells of itself counts before them.
POD_LABELS = (pods.MODEL_LABEL, pods.TRAINER_LABEL)


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


def check_names(trainers: Iterable[str]) -> None:
    """Refuses trainers whose templates would have the same name.

    Raises:
        InvalidConfig: If two would.
    """
    by_name: dict[str, str] = {}
    for trainer in trainers:
        if (other := by_name.setdefault(sanitise(trainer), trainer)) != trainer:
            raise InvalidConfig(
                f"The trainers {other} and {trainer} would share a template's name on Argo; uninstall or rename one of them."
            )


def train_templates(target: Target) -> list[WorkflowTemplate]:
    """The pipeline's template and those of its stages, of the stages of BY_TRAINER one for each trainer."""
    return [
        train_template(target),
        *(_reusable(stage, target) for stage in OUTPUTS if stage not in BY_TRAINER),
        *(_reusable(stage, target, trainer) for stage in BY_TRAINER for trainer in target.trainers),
    ]


def train_template(target: Target) -> WorkflowTemplate:
    """The DAG over the stages' templates."""
    with pipeline_template(TRAIN, form(target.trainers)) as template:
        with DAG(name="pipeline"):
            freeze(TRAIN.parameters)
            tasks_after_snapshot(target, output_of("snapshot"), output_of("snapshot", SHARDS), ("snapshot",))
        exit_steps()
    return template


def pipeline_template(
    pipeline: Pipeline, parameters: Mapping[str, FormParameter], labels: Mapping[str, str] = LABELS
) -> WorkflowTemplate:
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
        pod_metadata=Metadata(labels={label: label_value(labels[label]) for label in POD_LABELS}),
        workflow_metadata=WorkflowMetadata(
            labels={"app.kubernetes.io/name": "visionloop"},
            labels_from={
                label: LabelValueFrom(expression=SANITISED.format(source)) for label, source in labels.items()
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
    parameters = {**parameters_of(*form), SETTINGS: _explicit_settings()}
    add_task("snapshot", (), CALLS["snapshot"].arguments(parameters, {}))


def tasks_after_snapshot(target: Target, snapshot: str, shards: str, after: Sequence[str] = ()) -> None:
    """Adds every other task.

    Args:
        target: The target.
        snapshot: The URI of snapshot's receipt, as Argo writes it.
        shards: The JSON list of the shards, as Argo writes it.
        after: The tasks of the same DAG that they wait for.
    """
    form = {**parameters_of(*TRAIN.parameters), SETTINGS: _explicit_settings()}
    looks_ahead = {name: form[name] for name in LOOKED_FOR}
    receipts = check_and_convert(CALLS, form, snapshot, shards, after, looks_ahead)
    for trainer in target.trainers:
        _tasks_of_trainer(trainer, target, form, receipts, after)


def check_and_convert(
    calls: Mapping[str, Call],
    form: Mapping[str, str],
    snapshot: str,
    shards: str,
    after: Sequence[str],
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Adds the tasks validate and convert, each behind those of its shards.

    Args:
        calls: The pipeline's table of calls.
        form: Its parameters by name, as Argo writes them.
        snapshot: The URI of snapshot's receipt, as Argo writes it.
        shards: The JSON list of the shards, as Argo writes it.
        after: The tasks of the same DAG that they wait for.
        more: Further arguments of convert.

    Returns:
        The receipts so far, by stage.
    """
    receipts = {"snapshot": snapshot, "validate": output_of("validate"), "convert": output_of("convert")}

    def shards_of(stage: str, after: Sequence[str]) -> str:
        """Adds a task for each shard of a stage, none for an empty list; returns the name of them all."""
        name = f"{stage}{LOOP}"
        arguments = calls[stage].arguments_of_shard(form, receipts, "{{item}}")
        # An empty list gives a node that is skipped, which `depends` takes like a success (Argo's dag.go, executeDAGTask).
        add_task(stage, after, arguments, name=name, with_param=shards)
        return name

    checked = shards_of("validate", after)
    add_task("validate", (*after, checked), calls["validate"].arguments(form, receipts))
    converted = shards_of("convert", (*after, "validate"))
    add_task("convert", (*after, "validate", converted), {**calls["convert"].arguments(form, receipts), **(more or {})})
    return receipts


def _tasks_of_trainer(
    trainer: str, target: Target, form: Mapping[str, str], receipts: Mapping[str, str], after: Sequence[str]
) -> None:
    """Adds a trainer's train, evaluate, export and register, which run where the form names it and convert has left them to do.

    Argo replaces the arguments of a skipped task too, so each picks the output of a task only where that task ran.
    """
    left, named = reference_to("convert", "next"), _and_chosen(trainer, target)
    train, evaluate, export = (task_of(stage, trainer) for stage in ("train", "evaluate", "export"))
    trains, evaluates = f"{left} == 'train'{named}", f"{left} in ['train', 'evaluate']{named}"
    earlier_training, earlier_evaluation = (
        reference_to("convert", f"{result}_receipt") for result in ("training", "evaluation")
    )
    receipts = {
        **receipts,
        "train": f"{{{{={trains} ? {reference_to(train, 'receipt')} : {earlier_training}}}}}",
        "evaluate": f"{{{{={evaluates} ? {reference_to(evaluate, 'receipt')} : {earlier_evaluation}}}}}",
    }
    unless = CALLS["register"].condition
    accepted = f"{reference_to(evaluate, unless.scalar)} != '{unless.value}'"
    registers = f"{left} == 'register'{named} || {evaluates} && {accepted}"
    exports = f"workflow.parameters.{CALLS['export'].only_with} != '' && ({registers})"
    # A list that is empty leaves the task out, and register goes on behind it as behind a success.
    receipts["export"] = f"{{{{={exports} ? {reference_to(export, 'receipt')} : ''}}}}"
    conditions = {"train": trains, "evaluate": evaluates, "export": exports, "register": registers}
    before = {
        "train": (*after, "convert"),
        "evaluate": (*after, "convert", train),
        "export": ("convert", evaluate),
        "register": ("convert", evaluate, export),
    }
    for stage in conditions:
        arguments = CALLS[stage].arguments(form, receipts) | places_of(target.row(stage, trainer))
        add_task(stage, before[stage], arguments, when=f"{{{{={conditions[stage]}}}}}", trainer=trainer)


def _reusable(name: str, target: Target, trainer: str = DEFAULT_TRAINER) -> WorkflowTemplate:
    """One stage's template, which other workflows refer to or a person submits by itself."""
    stage = catalog.stage(name)
    policy = target.row(name, trainer)
    more: dict[str, Any] = {"trainer": trainer} if name in BY_TRAINER else {}
    if name == "convert":
        own = [Field(parameter, "", "As train and evaluate take it.") for parameter in LOOKED_FOR]
        more = {
            "inputs": own,
            "words": [f"--ahead={field.name}={{{{inputs.parameters.{field.name}}}}}" for field in own],
        }
    if name == "train":
        mutex = f"visionloop-train-{label_value('inputs.parameters.model_name')}"
        more["synchronization"] = Synchronization(mutexes=[Mutex(name=mutex)])
    title = f"{name} ({trainer})" if name in BY_TRAINER else name
    with WorkflowTemplate(
        name=template_of(name, trainer),
        annotations=dict(shown_as(f"Visionloop: {title}", stage.description)),
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


def add_task(
    stage: str,
    after: Sequence[str],
    arguments: Mapping[str, str],
    *,
    when: str | None = None,
    trainer: str = DEFAULT_TRAINER,
    name: str | None = None,
    with_param: str | None = None,
) -> Task:
    """Adds a task: a stage's template with arguments, after other tasks of the DAG."""
    return Task(
        name=name or task_of(stage, trainer),
        depends=" && ".join(after) or None,
        when=when,
        template_ref=_reference(stage, trainer),
        arguments=_common() | dict(arguments),
        with_param=with_param,
    )


def _reference(stage: str, trainer: str = DEFAULT_TRAINER) -> TemplateRef:
    return TemplateRef(name=template_of(stage, trainer), template=stage)


def template_of(stage: str, trainer: str = DEFAULT_TRAINER) -> str:
    """The name of a stage's WorkflowTemplate; the template in it has the stage's name."""
    return f"visionloop-{stage}-{sanitise(trainer)}" if stage in BY_TRAINER else f"visionloop-{stage}"


def _common() -> dict[str, str]:
    return {**parameters_of("workspace"), TRACE.name: f"{{{{={_TRACE}}}}}"}


def parameters_of(*names: str) -> dict[str, str]:
    """Fields of the form by name, as Argo writes them."""
    return {name: f"{{{{workflow.parameters.{name}}}}}" for name in names}


def places_of(policy: StagePolicy) -> dict[str, str]:
    """The form's values of PLACES for a row that has them; where they are empty, the row's own."""
    places = {}
    for field in (*gpus(policy), *spot(policy)):
        form = f"workflow.parameters.{field.name}"
        chosen = form
        if field.name == "gpus" and policy.gpus_most is not None:
            chosen = f"asInt({form}) > {policy.gpus_most} ? '{policy.gpus_most}' : {form}"
        places[field.name] = f"{{{{={form} == '' ? '{field.default}' : {chosen}}}}}"
    return places


def output_of(task: str, name: str = "receipt") -> str:
    """A task's output in a DAG, as Argo writes it."""
    return f"{{{{tasks.{task}.outputs.parameters.{name}}}}}"


def reference_to(task: str, output: str) -> str:
    """A task's output in an expression."""
    return f"tasks['{task}'].outputs.parameters.{output}"


def task_of(stage: str, trainer: str) -> str:
    """The name of a trainer's task in a DAG; the default trainer's have their stages' names."""
    return stage if trainer == DEFAULT_TRAINER else f"{stage}-{sanitise(trainer)}"


def _and_chosen(trainer: str, target: Target) -> str:
    """The condition that the form names a trainer, behind another one."""
    return "".join(f" && {condition}" for condition in chosen(trainer, target))


def chosen(trainer: str, target: Target) -> list[str]:
    """The conditions that the form names a trainer; the default one takes every unknown name, and reports it itself."""
    if trainer != DEFAULT_TRAINER:
        return [f"workflow.parameters.trainer == '{trainer}'"]
    return [f"workflow.parameters.trainer != '{name}'" for name in target.trainers if name != trainer]
