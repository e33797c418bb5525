"""What is left to do after convert, on Kubeflow Pipelines: in a compiled file once, however many trainers there are.

Trainers share these tasks. They differ in their image, which is a constant of each trainer's call, so that nobody who starts a run
can name one; train has a task for each row that differs in more than that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from kfp import dsl

from visionloop.components.calls import CALLS, SETTINGS
from visionloop.components.convert.ahead import NOTHING
from visionloop.components.evaluate.component import evaluate
from visionloop.components.export.component import export
from visionloop.components.register.component import register
from visionloop.components.train.component import train
from visionloop.pipelines.engines.kubeflow.reuse import reuse_evaluation, reuse_training
from visionloop.pipelines.engines.kubeflow.tasks import apply_policy, common_to
from visionloop.pipelines.parameters import TRAIN, Parameter, takes
from visionloop.pipelines.targets import BY_TRAINER, Target

#: What is read of convert's outputs besides its receipt.
FROM_CONVERT = ("next", "training_receipt", "evaluation_receipt", "converted_dataset")

#: The receipts that are read: by name the stage.
RECEIPTS = {"snapshot_receipt": "snapshot", "convert_receipt": "convert"}


def _parameters(*stages: str) -> tuple[str, ...]:
    """The parameters of the pipeline that stages take."""
    return tuple(dict.fromkeys(["workspace", *(name for stage in stages for name in CALLS[stage].parameters)]))


#: The inputs of the graph that trainers share, and of its part that judges.
_INPUTS = (*_parameters(*(stage for stage in BY_TRAINER if stage in CALLS)), *RECEIPTS, *FROM_CONVERT, "image", "row")
_JUDGED = (
    *_parameters("evaluate", "export", "register"),
    "snapshot_receipt",
    "training_receipt",
    "trained_model",
    "image",
)

#: The types of those that are not texts.
_KINDS = {
    "converted_dataset": dsl.Input[dsl.Dataset],
    "trained_model": dsl.Input[dsl.Model],
    "evaluation_metrics": dsl.Input[dsl.Metrics],
    SETTINGS: dict,
}

#: Values by name: the pipeline's parameters, settings among them, RECEIPTS and FROM_CONVERT.
Values = Mapping[str, Any]


def left_to_do(target: Target) -> Callable[[Values], None]:
    """Returns the function that adds to a graph what is left to do after convert."""
    trainers = tuple(target.trainers)
    if len(trainers) == 1:
        return _graph(target, [trainers])
    groups = target.alike()
    shared = _nested("after-convert", "What is left to do after convert.", _INPUTS, _graph(target, groups))
    rows = {name: group[0] for group in groups for name in group}

    def with_its_image(values: Values) -> None:
        for name, branch in by_trainer(target, values["trainer"]):
            with branch:
                shared({**values, "image": target.image(target.trainers[name]), "row": rows[name]})

    return with_its_image


def by_trainer(target: Target, chosen: Any) -> Iterator[tuple[str, AbstractContextManager[Any]]]:
    """A branch for each trainer of a target, by the form's field that names one."""
    return _branches(tuple(target.trainers), chosen, "trainers", "with-{}")


def _nested(name: str, description: str, inputs: Sequence[str], graph: Callable[[Values], None]) -> Callable[..., None]:
    """A graph as a DAG of its own, which the compiled file holds once however often it is called."""
    parameters = {name: _input(name) for name in inputs}

    @dsl.pipeline(name=name)
    @takes(description, parameters)
    def nested(*values: Any) -> None:
        graph(dict(zip(parameters, values, strict=True)))

    def called(values: Values) -> None:
        nested(**{name: values[name] for name in parameters}).set_display_name(name.replace("-", " "))

    return called


def _input(name: str) -> Parameter:
    """An input of a nested graph."""
    kind: Any = _KINDS.get(name, str)
    text = TRAIN[name].description if name in TRAIN else "As the graph around it has it."
    return Parameter(name, kind, None, text)


def _graph(target: Target, groups: Sequence[Sequence[str]]) -> Callable[[Values], None]:
    """What is left to do; among its values are ``image`` and ``row`` if several trainers share it.

    Args:
        target: The target.
        groups: The trainers, in groups that share train's task.
    """
    judge = _judgement(target)
    if len(groups) > 1:
        judge = _nested("judge", "Evaluates, and registers what is good enough.", _JUDGED, judge)
    # What hands on an earlier result reads its receipt, and no dataset.
    shows = replace(target.policies["convert"], secrets=("results",))

    def graph(values: Values) -> None:
        common, image, left = common_to(values), values.get("image"), values["next"]

        def show_training() -> Any:
            lineage = {"converted_dataset": values["converted_dataset"]}
            shown = reuse_training(receipt=values["training_receipt"], **lineage, **common)
            return apply_policy(shown, "reuse training", shows, target).outputs["trained_model"]

        def show_evaluation() -> Any:
            trained_model = show_training()
            shown = reuse_evaluation(receipt=values["evaluation_receipt"], trained_model=trained_model, **common)
            return apply_policy(shown, "reuse evaluation", shows, target).outputs["evaluation_metrics"]

        with dsl.If(left == NOTHING, name="rejected-before"):
            show_evaluation()
        with _further(dsl.Elif(left == "register", name="evaluated-before"), "left-to-do"):
            _export_and_register(target, image, values, values["evaluation_receipt"], show_evaluation())
        with dsl.Elif(left == "evaluate", name="trained-before"):
            judge({**values, "trained_model": show_training()})
        with dsl.Else(name="train-anew"):
            shared = {group[0]: group for group in groups}
            for first, branch in _branches(
                tuple(shared), values.get("row"), "trainers with the same resources", "with-resources-of-{}"
            ):
                with branch:
                    trained = train(converted_dataset=values["converted_dataset"], **_arguments("train", values))
                    apply_policy(trained, "train", target.shared_row("train", shared[first]), target, image)
                    outputs = trained.outputs
                    made = {"training_receipt": outputs["receipt"], "trained_model": outputs["trained_model"]}
                    judge({**values, **made})

    return graph


def _arguments(stage: str, values: Values, **more: Any) -> dict[str, Any]:
    receipts = {before: values[name] for name, before in RECEIPTS.items() if name in values}
    return CALLS[stage].arguments(values, {**receipts, **more}) | common_to(values)


def _judgement(target: Target) -> Callable[[Values], None]:
    """Evaluates a training, and registers what is good enough."""
    register_unless_rejected = _registration(target)
    row = target.shared_row("evaluate", tuple(target.trainers))

    def judge(values: Values) -> None:
        arguments = _arguments("evaluate", values, train=values["training_receipt"])
        evaluated = evaluate(trained_model=values["trained_model"], **arguments)
        outputs = apply_policy(evaluated, "evaluate", row, target, values.get("image")).outputs
        register_unless_rejected(
            values, **{name: outputs[name] for name in ("verdict", "receipt", "evaluation_metrics")}
        )

    return judge


def _export_and_register(target: Target, image: Any, values: Values, evaluation: Any, metrics: Any) -> None:
    """Adds the last two steps: the exports, none where none is asked for, and the registration behind them.

    Args:
        target: The target.
        image: An input of the graph that names the image, if several trainers share it.
        values: The pipeline's parameters.
        evaluation: The URI of evaluate's receipt.
        metrics: Its artifact.
    """
    trainers, receipts = tuple(target.trainers), {"evaluate": evaluation}
    exported = export(evaluation_metrics=metrics, **_arguments("export", values, **receipts))
    apply_policy(exported, "export", target.shared_row("export", trainers), target, image)
    receipts["export"] = exported.outputs["receipt"]
    registered = register(evaluation_metrics=metrics, **_arguments("register", values, **receipts))
    apply_policy(registered, "register", target.shared_row("register", trainers), target, image)


def _registration(target: Target) -> Callable[..., Any]:
    """The last steps, under a condition. kfp.local resolves a condition from its DAG's inputs only, so there they get a DAG."""
    unless = CALLS["register"].condition

    def conditional(values: Values, verdict: Any, receipt: Any, evaluation_metrics: Any) -> None:
        with dsl.If(verdict != unless.value, name="good-enough"):
            _export_and_register(target, values.get("image"), values, receipt, evaluation_metrics)

    if target.places:
        return conditional
    parameters = _parameters("export", "register")
    inputs = {name: _input(name) for name in (*parameters, "verdict", "receipt", "evaluation_metrics")}

    @dsl.pipeline(name="register-unless-rejected")
    @takes("Exports and registers what is good enough.", inputs)
    def register_if_good(*given: Any) -> None:
        values = dict(zip(inputs, given, strict=True))
        conditional(values, values["verdict"], values["receipt"], values["evaluation_metrics"])

    return lambda values, **outputs: register_if_good(**{name: values[name] for name in parameters}, **outputs)


def _branches(
    names: Sequence[str], chosen: Any, around: str, form: str
) -> Iterator[tuple[str, AbstractContextManager[Any]]]:
    """A branch for each name; the first one takes every unknown name too, and its stage reports it.

    Args:
        names: The names.
        chosen: The value that chooses one.
        around: What people see for the group around the branches.
        form: What they see for a branch, with its name.
    """
    first, *others = names
    for position, name in enumerate(others):
        kind = dsl.Elif if position else dsl.If
        yield name, kind(chosen == name, name=form.format(name))
    yield first, _further(dsl.Else(name=form.format(first)), around) if others else nullcontext()


@contextmanager
def _further(branch: Any, around: str) -> Iterator[None]:
    """A further branch of a condition; the group that KFP makes around the branches, and shows by a number, gets a name for people."""
    with branch:
        branch.parent_task_group.display_name = around
        yield
