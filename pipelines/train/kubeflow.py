"""The training pipeline on Kubeflow Pipelines."""

from collections.abc import Iterator
from typing import Any

from kfp import dsl

from visionloop.components.cleanup.component import cleanup
from visionloop.components.convert.component import convert
from visionloop.components.evaluate.component import evaluate
from visionloop.components.register.component import register
from visionloop.components.snapshot.component import snapshot as freeze
from visionloop.components.train.component import train
from visionloop.components.validate.component import validate
from visionloop.pipelines.kubeflow import place
from visionloop.pipelines.parameters import TRAIN, documented
from visionloop.pipelines.reuse import reuse_evaluation, reuse_training
from visionloop.pipelines.targets import DEFAULT_TRAINER, Target

NAME = "visionloop-train"
DESCRIPTION = "Retrains a vision model from an annotated image dataset and registers it if it may serve."
DEFAULT = {name: parameter.default for name, parameter in TRAIN.items()}


def train_pipeline(target: Target) -> Any:
    """The pipeline for a target, a KFP graph component: compile it, or call it under ``kfp.local``."""
    row = target.policies

    @dsl.pipeline(name=NAME, description=DESCRIPTION, display_name="Visionloop: train")  # type: ignore[untyped-decorator]
    @documented(DESCRIPTION)
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

            judged = []
            with dsl.If(converted.outputs["evaluation_receipt"] != "", name="evaluated-before"):
                known = reuse_evaluation(receipt=converted.outputs["evaluation_receipt"])
                judged.append(place(known, "reuse evaluation", row["convert"], target))
            for name, condition in _branches(target, trainer):
                with condition:
                    with dsl.If(converted.outputs["training_receipt"] != "", name="trained-before"):
                        kept = reuse_training(receipt=converted.outputs["training_receipt"])
                        place(kept, "reuse training", row["convert"], target)
                    with dsl.Else(name="train-anew"):
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
                    evaluated = evaluate(
                        training=dsl.OneOf(kept.outputs["receipt"], trained.outputs["receipt"]),
                        snapshot=frozen.outputs["receipt"],
                        model_name=model_name,
                        gate=gate,
                        trained_model=dsl.OneOf(kept.outputs["trained_model"], trained.outputs["trained_model"]),
                        **common,
                    )
                    judged.append(place(evaluated, "evaluate", target.evaluate(name), target))

            verdict = dsl.OneOf(*(task.outputs["verdict"] for task in judged))
            with dsl.If(verdict != "reject", name="good-enough"):
                registered = register(
                    evaluation=dsl.OneOf(*(task.outputs["receipt"] for task in judged)), model_name=model_name, **common
                )
                place(registered, "register", row["register"], target)

    return visionloop_train


def _branches(target: Target, trainer: Any) -> Iterator[tuple[str, Any]]:
    """A branch for each trainer; the default one takes whatever name is left, and says itself that it knows no such trainer."""
    for name in target.trainers:
        if name != DEFAULT_TRAINER:
            yield name, dsl.Elif(trainer == name, name=f"evaluate-with-{name}")
    yield DEFAULT_TRAINER, dsl.Else(name="evaluate-anew")
