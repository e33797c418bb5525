"""The training pipeline on Kubeflow Pipelines."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from kfp import dsl

from visionloop.components import lookup
from visionloop.components.cleanup.component import cleanup
from visionloop.components.convert.component import convert
from visionloop.components.evaluate.component import evaluate
from visionloop.components.register.component import register
from visionloop.components.snapshot.component import snapshot as freeze
from visionloop.components.train.component import train
from visionloop.components.validate.component import validate
from visionloop.pipelines.kubeflow import place
from visionloop.pipelines.parameters import TRAIN, documented, form
from visionloop.pipelines.reuse import reuse_evaluation, reuse_training
from visionloop.pipelines.targets import DEFAULT_TRAINER, Target

NAME = "visionloop-train"
DESCRIPTION = "Retrains a vision model from an annotated image dataset and registers it if it may serve."
DEFAULT = {name: parameter.default for name, parameter in TRAIN.items()}


def train_pipeline(target: Target) -> Any:
    """The pipeline for a target, a KFP graph component: compile it, or call it under ``kfp.local``."""
    row = target.policies
    register_unless_rejected = _registration(target)

    def judge(name: str, training: Any, frozen: Any, model_name: Any, gate: Any, common: dict[str, Any]) -> None:
        evaluated = evaluate(training=training, snapshot=frozen, model_name=model_name, gate=gate, **common)
        place(evaluated, "evaluate", target.evaluate(name), target)
        verdict, evaluation = evaluated.outputs["verdict"], evaluated.outputs["receipt"]
        register_unless_rejected(verdict=verdict, evaluation=evaluation, model_name=model_name, **common)

    @dsl.pipeline(name=NAME, description=DESCRIPTION, display_name="Visionloop: train")
    @documented(DESCRIPTION, form(target.trainers))
    def visionloop_train(
        workspace: str,
        model_name: str,
        dataset: str = DEFAULT["dataset"],
        snapshot: str = DEFAULT["snapshot"],
        task: str = DEFAULT["task"],
        split: str = DEFAULT["split"],
        run_name: str = DEFAULT["run_name"],
        description: str = DEFAULT["description"],
        gate: str = DEFAULT["gate"],
        trainer: str = DEFAULT["trainer"],
        model: str = DEFAULT["model"],
        imgsz: int = DEFAULT["imgsz"],
        epochs: int = DEFAULT["epochs"],
        batch: int = DEFAULT["batch"],
        lr0: float = DEFAULT["lr0"],
        optimizer: str = DEFAULT["optimizer"],
        augment: bool = DEFAULT["augment"],
        primary_metric: str = DEFAULT["primary_metric"],
        primary_metric_mode: str = DEFAULT["primary_metric_mode"],
        advanced_config: dict = DEFAULT["advanced_config"],
    ) -> None:
        common = {"workspace": workspace, "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        settings = {
            "trainer": trainer,
            "model": model,
            "imgsz": imgsz,
            "epochs": epochs,
            "batch": batch,
            "lr0": lr0,
            "optimizer": optimizer,
            "augment": augment,
            "primary_metric": primary_metric,
            "primary_metric_mode": primary_metric_mode,
            "advanced_config": advanced_config,
        }
        cleaned = place(cleanup(**common), "cleanup", row["cleanup"], target)
        with dsl.ExitHandler(cleaned, name="retraining"):
            frozen = freeze(dataset=dataset, snapshot=snapshot, task=task, split=split, **common)
            place(frozen, "snapshot", row["snapshot"], target)
            lineage = {"frozen_dataset": frozen.outputs["frozen_dataset"]}

            checked = validate(snapshot=frozen.outputs["receipt"], **lineage, **common)
            place(checked, "validate", row["validate"], target)

            converted = convert(
                snapshot=frozen.outputs["receipt"],
                report=checked.outputs["receipt"],
                look_ahead=True,
                model_name=model_name,
                gate=gate,
                **settings,
                **lineage,
                **common,
            )
            place(converted, "convert", row["convert"], target)

            left = converted.outputs["next"]
            known_training, known_evaluation = (
                converted.outputs["training_receipt"],
                converted.outputs["evaluation_receipt"],
            )
            with dsl.If(left == lookup.NOTHING, name="rejected-before"):
                place(reuse_evaluation(receipt=known_evaluation), "reuse evaluation", row["convert"], target)
            with dsl.Elif(left == "register", name="evaluated-before"):
                place(reuse_evaluation(receipt=known_evaluation), "reuse evaluation", row["convert"], target)
                again = register(evaluation=known_evaluation, model_name=model_name, **common)
                place(again, "register", row["register"], target)
            with dsl.Elif(left == "evaluate", name="trained-before"):
                place(reuse_training(receipt=known_training), "reuse training", row["convert"], target)
                for name, branch in _branches(target, trainer):
                    with branch:
                        judge(name, known_training, frozen.outputs["receipt"], model_name, gate, common)
            with dsl.Else(name="train-anew"):
                for name, branch in _branches(target, trainer):
                    with branch:
                        trained = train(
                            converted=converted.outputs["receipt"],
                            snapshot=frozen.outputs["receipt"],
                            model_name=model_name,
                            run_name=run_name,
                            description=description,
                            converted_dataset=converted.outputs["converted_dataset"],
                            **settings,
                            **common,
                        )
                        place(trained, "train", target.trainers[name], target)
                        judge(name, trained.outputs["receipt"], frozen.outputs["receipt"], model_name, gate, common)

    return visionloop_train


def _registration(target: Target) -> Callable[..., Any]:
    """The last step, on a condition. kfp.local resolves a condition from its DAG's inputs only, so there it gets a DAG."""

    def conditional(verdict: Any, evaluation: Any, model_name: Any, workspace: Any, run: Any) -> None:
        with dsl.If(verdict != "reject", name="good-enough"):
            registered = register(evaluation=evaluation, model_name=model_name, workspace=workspace, run=run)
            place(registered, "register", target.policies["register"], target)

    if target.places:
        return conditional

    @dsl.pipeline(name="register-unless-rejected")
    def register_if_good(verdict: str, evaluation: str, model_name: str, workspace: str, run: str) -> None:
        conditional(verdict, evaluation, model_name, workspace, run)

    return register_if_good  # type: ignore[no-any-return]


def _branches(target: Target, trainer: Any) -> Iterator[tuple[str, AbstractContextManager[Any]]]:
    """A branch for each trainer; the default one takes whatever name is left, and says itself that it knows no such trainer."""
    others = [name for name in target.trainers if name != DEFAULT_TRAINER]
    for position, name in enumerate(others):
        kind = dsl.Elif if position else dsl.If
        yield name, kind(trainer == name, name=f"with-{name}")
    yield DEFAULT_TRAINER, dsl.Else(name=f"with-{DEFAULT_TRAINER}") if others else nullcontext()
