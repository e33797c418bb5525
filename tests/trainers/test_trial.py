"""What a trial of one batch has to show, and that each trainer of this package can be tried."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_training import Silent
from torch import Tensor, nn

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.training import catalog
from visionloop.training.conformance import samples
from visionloop.training.conformance.subject import Subject
from visionloop.training.pytorch.training import try_batch
from visionloop.training.pytorch.trial import Gradients
from visionloop.training.trainers import BatchTrial, TrainingJob, TriesABatch
from visionloop.training.trainers.timm.learner import TimmLearner
from visionloop.training.trial import STEPS, is_enough, judged, rate

TRIAL = BatchTrial(
    losses=[2.3, 2.2, 1.9],
    gradients={"body": 0.5, "head": 2.0},
    weights=1100,
    trained=1000,
    images=16,
    chance=math.log(10),
)


def test_what_was_seen_is_told() -> None:
    assert [(finding.check, finding.seen) for finding in judged(TRIAL, 0.01)] == [
        ("loss", "2.3 at the start, where guessing gives 2.303"),
        ("gradients", "in each of 2 parts of the model; 100 of 1,100 weights are frozen"),
        ("overfitting", "2.3 to 1.9 in 2 steps on one batch of 16 images"),
    ]
    assert judged(replace(TRIAL, chance=None), 0.01)[0].seen == "2.3 at the start"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"losses": [math.nan]}, "The loss of the first batch is nan: look at the starting weights"),
        ({"losses": [math.inf]}, "The loss of the first batch is inf"),
        ({"losses": [-1.0, -2.0]}, "The loss of the first batch is -1, outside what makes sense (0 to 46.05 and guessing gives 2.303)"),
        ({"losses": [47.0, 1.0]}, "The loss of the first batch is 47, outside what makes sense"),
        ({"losses": [2e4, 1.0], "chance": None}, "The loss of the first batch is 2e+04, outside what makes sense (0 to 1e+04)"),
        ({"losses": [2.3, 2.3, 2.299]}, "Trained on one batch of 16 images, the loss did not fall in 2 steps (2.3 at the start, 2.299 at the end): raise lr0 (now 0.01)"),
        ({"losses": [2.3, 9.0, 400.0]}, "the loss did not fall in 2 steps (2.3 at the start, 400 at the end)"),
        ({"losses": [2.3, 9.0, math.nan]}, "the loss is no longer finite after 2 steps (it began at 2.3): lower lr0 (now 0.01)"),
        ({"gradients": {"body": 0.0, "head": 1.0}}, "No gradients arrive in body of the model, though it is trained"),
        ({"gradients": {f"layer{number}": 0.0 for number in range(7)}}, "No gradients arrive in layer0, layer1, layer2, layer3, layer4 and 2 more of the model, though they are"),
        ({"losses": [], "gradients": {}, "trained": 0}, "Nothing would be trained: all 1,100 weights of the model are frozen"),
    ],
)  # fmt: skip
def test_each_fault_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDataset) as refused:
        judged(replace(TRIAL, **changes), 0.01)
    assert said in refused.value.sentence


def test_a_loss_that_rises_before_it_falls_passes() -> None:
    risen = replace(TRIAL, losses=[0.36, 6.6, 1.3], chance=None)
    assert judged(risen, 0.01)[-1].seen == "0.36 up to 6.6, then down to 1.3 in 2 steps on one batch of 16 images"


def test_a_trial_ends_once_it_has_shown_enough() -> None:
    assert not is_enough([2.0])
    assert is_enough([math.nan])
    assert not is_enough([2.0, 1.0, 1.0, 1.0, 1.0])
    assert is_enough([2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert not is_enough([2.0] * STEPS)
    assert is_enough([2.0] * (STEPS + 1))
    assert (rate(0.1, 0), rate(0.1, 9), rate(0.1, 29)) == (pytest.approx(0.01), 0.1, 0.1)


def test_the_gradients_of_a_part_are_the_largest_of_any_step() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    model[2].requires_grad_(False)
    watch = Gradients(model)
    assert (watch.weights, watch.trained) == (3, 2)
    weight = model[0].weight
    assert isinstance(weight, torch.Tensor)
    for value in (4.0, math.inf, 2.0):
        weight.grad = torch.full_like(weight, value)
        watch.look(2.0)
    assert watch.norms == {"0.weight": 2.0, "1.weight": 0.0}


def job_of(name: str, task: str, work: Path, **settings: object) -> tuple[Any, TrainingJob]:
    """A trainer, and a training of it on 24 generated images."""
    trainer = catalog.trainer(name)
    subject = Subject(name, trainer, task, settings)
    pose = task == "pose"
    job = TrainingJob(
        task=task,
        dataset=subject.dataset,
        classes=tuple(samples.CLASSES),
        config=subject.config.values,
        weights=None,
        work=work,
        checkpoint=None,
        batch=4,
        keypoints=tuple(samples.KEYPOINTS) if pose else (),
        flip=tuple(samples.FLIP) if pose else (),
    )
    return trainer, job


def cases() -> Iterable[Any]:
    for name in ("timm", "torchvision", "transformers", "ultralytics"):
        for task in sorted(catalog.trainer(name).tasks):
            quick = (name, task) in (("timm", "classification"), ("ultralytics", "detection"))
            yield pytest.param(name, task, marks=() if quick else pytest.mark.matrix)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), list(cases()))
def test_each_trainer_learns_one_batch(name: str, task: str, tmp_path: Path) -> None:
    trainer, job = job_of(name, task, tmp_path)
    assert isinstance(trainer, TriesABatch)
    trial = trainer.try_batch(job, Silent())
    findings = judged(trial, job.config["lr0"])
    assert [finding.check for finding in findings] == ["loss", "gradients", "overfitting"]
    assert trial.images == 4
    assert (trial.chance is not None) == (task == "classification")
    again = trainer.try_batch(job, Silent())
    assert again.losses == trial.losses


@pytest.mark.parametrize("name", ["timm", pytest.param("ultralytics", marks=pytest.mark.slow)])
def test_a_learning_rate_of_nothing_is_refused(name: str, tmp_path: Path) -> None:
    task = "classification" if name == "timm" else "detection"
    trainer, job = job_of(name, task, tmp_path, lr0=1e-9, optimizer="SGD")
    trial = trainer.try_batch(job, Silent())
    assert len(trial.losses) == STEPS + 1
    with pytest.raises(InvalidDataset, match=r"the loss did not fall in 30 steps .* raise lr0 \(now 1e-09\)"):
        judged(trial, job.config["lr0"])


def test_what_ultralytics_refuses_to_freeze_is_told(tmp_path: Path) -> None:
    trainer, job = job_of("ultralytics", "detection", tmp_path, freeze=100)
    with pytest.raises(InvalidConfig, match="froze the entire model"):
        trainer.try_batch(job, Silent())


class Detached(TimmLearner):
    """A learner whose loss does not depend on a part that is trained."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.model.lost = nn.Linear(2, 2)


class Frozen(TimmLearner):
    """A learner that trains nothing."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.model.requires_grad_(False)


class Broken(TimmLearner):
    """A learner whose loss is no number."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return {"loss": super().losses(batch)["loss"] * torch.nan}


class Diverging(TimmLearner):
    """A learner whose loss is no number from the third step on."""

    steps = 0

    def losses(self, batch: Any) -> dict[str, Tensor]:
        self.steps += 1
        return {"loss": super().losses(batch)["loss"] * (torch.inf if self.steps > 3 else 1)}


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        (Detached, "No gradients arrive in lost.weight, lost.bias of the model"),
        (Frozen, "Nothing would be trained: all "),
        (Broken, "The loss of the first batch is nan"),
        (Diverging, "the loss is no longer finite after 3 steps"),
    ],
)
def test_a_model_that_can_not_be_trained_is_refused(learner: type[TimmLearner], said: str, tmp_path: Path) -> None:
    _, job = job_of("timm", "classification", tmp_path)
    trial = try_batch(job, Silent(), learner)
    with pytest.raises(InvalidDataset) as refused:
        judged(trial, job.config["lr0"])
    assert said in refused.value.sentence


def test_several_devices_are_tried_on_the_first_with_its_share(tmp_path: Path) -> None:
    _, job = job_of("timm", "classification", tmp_path)
    seen: list[tuple[object, int]] = []

    class Watched(TimmLearner):
        def __init__(self, job: TrainingJob, *rest: Any) -> None:
            seen.append((job.config["device"], job.batch))
            super().__init__(job, *rest)

    trial = try_batch(replace(job, config={**job.config, "device": "cpu,cpu"}), Silent(), Watched)
    assert seen == [("cpu", 2)]
    assert trial.images == 2
