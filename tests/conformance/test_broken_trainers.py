"""Each promise of the protocol, and a trainer that breaks it: the check fails, with its sentence."""

from __future__ import annotations

import stat
from types import SimpleNamespace

import pytest

from visionloop.core import catalog
from visionloop.core.errors import VisionloopError
from visionloop.training.catalog import TRAINERS, trainer
from visionloop.training.conformance import Broken, NotChecked, predicted, promises, subject
from visionloop.training.conformance.outcomes import Outcome
from visionloop.training.conformance.samples import CLASSES
from visionloop.training.trainers import Prediction, PredictionSettings

#: Trainer, the check that it fails, and a part of the sentence.
BREAKS = [
    ("misnamed", "attributes", "name is 'another', and the entry point 'misnamed'"),
    ("loud", "imports", "imports safetensors, so that every command pays for it"),
    ("unpinned", "requirements", "'numpy>=2' is not pinned"),
    ("unlicensed", "licences", "The metadata of broken-trainers states no licence"),
    ("unmeasured", "metrics", "lacks mAP50-95, precision, recall"),
    ("elsewhere", "models", "The default model softmax is for pose"),
    ("excessive", "defaults", "The default of momentum is not one that it takes"),
    ("restless", "normalise", "normalise changes the default of momentum"),
    ("literal", "refusals", "momentum='no number' ends with ValueError"),
    ("forgetful", "key", "lr0 affects a result, and is declared outside the key"),
    ("closing", "channel", "The training ended without a word"),
    ("failing", "training", "ZeroDivisionError: the trainer's own"),
    ("lossy", "training", "none.pt, which is not a file with content"),
    ("parenthetical", "history", "metrics/mAP50(B), which is not a name of detection"),
    ("unbounded", "history", "epoch 1 gives no finite number for val_loss (val_metrics), loading (seconds)"),
    ("partial", "images", "Of train it reports 11 images, and the dataset has 12"),
    ("twice", "epochs", "The epochs [1, 1, 2, 2] were reported"),
    ("unbounded", "epochs", "best_value is not finite in epoch 1"),
    ("missing", "epochs", "The checkpoint of epoch [1, 2] was not there"),
    ("rewriting", "epochs", "The checkpoint of epoch [1, 2] was changed after it was reported"),
    ("dated", "determinism", "A second training gives another best"),
    ("restarting", "resume", "Resumed after epoch 1 it reported the epochs [1, 2], not [2]"),
    ("careless", "resume", "Killed after epoch 1 and resumed, the training gives another last and history"),
    ("restarting", "finalise", "With the checkpoint of the last epoch it trained the epochs [1, 2]"),
    ("overwriting", "finalise", "From the checkpoint of the last epoch it writes another last"),
    ("stubborn", "smaller batch", "It was given a batch of 2, and says that it used 4"),
    ("swallowing", "out of memory", "raise OutOfMemory, so that the batch is halved"),
    ("leaving", "children", "goes on after the training, at its end"),
    ("unnamed", "evaluation", "metrics has map, which is not a name of detection"),
    ("zero", "absent class", f"per_class has {{'mAP50': 0.0}} for {CLASSES[2]}"),
    ("narrow", "confusion", "confusion has the shape (3, 3), not (4, 4)"),
    ("resampling", "resampled", "resampled('mAP50-95', ones) is 0.123"),
    ("baseless", "unlabelled", "Without a labelled object metrics has {'mAP50': 0.0}"),
    ("archivist", "folders", "With labels.tar the metrics are"),
    ("reversed", "classes", "keep them in order"),
    ("choosy", "sizes", "It raised ValueError: an image too small"),
    ("unordered", "order", "give the most confident first"),
    ("boxless", "fields", "A box is None"),
    ("outside", "coordinates", "In a picture of 1 × 1 something lies at"),
    ("talkative", "confidence", "leave it out"),
    ("writing", "dataset", "It wrote into the dataset's folder (dataset/labels/train.cache)"),
]


def outcome(trainer: str, check: str) -> Outcome:
    """How one check of a trainer ends; of another check's trainings only those are made that this one needs."""
    every = {promise.check.name: promise for promise in promises(trainer)}
    if check == "dataset":  # it looks at what the trainings did
        every["training"].outcome()
    return every[check].outcome()


@pytest.mark.parametrize(("trainer", "check", "sentence"), BREAKS, ids=[f"{row[0]}-{row[1]}" for row in BREAKS])
def test_a_broken_trainer_fails_with_its_sentence(
    trainer: str, check: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if check == "children":
        monkeypatch.setattr(subject, "PATIENCE", 0.1)
    result = outcome(trainer, check)
    assert (result.state, result.check) == ("failed", check), result
    assert sentence in result.sentence


def test_every_check_has_a_trainer_that_fails_it() -> None:
    names = {promise.check.name for promise in promises("toy")}
    assert names == {row[1] for row in BREAKS} | {"masks"}


def test_what_depends_on_a_training_that_failed_is_not_checked() -> None:
    every = {promise.check.name: promise for promise in promises("failing")}
    assert every["resume"].outcome().state == "not checked"
    assert every["evaluation"].outcome().sentence == "Not checked: the training did not end well."


def test_each_check_says_what_keeps_a_training_from_being_made() -> None:
    made = subject.Subject("toy", trainer("toy"), "detection", {"model": "/no/such.pt"})
    for _ in range(2):
        with pytest.raises(VisionloopError, match=r"/no/such\.pt"):
            _ = made.whole


def test_a_setting_that_the_trainer_itself_makes_impossible_is_its_failure() -> None:
    """A user's is refused before the first check."""
    checks = {promise.check.name: promise for promise in promises("excessive", settings={"lr0": 0.5})}
    assert checks["defaults"].outcome().state == "failed"


def test_masks_are_given_where_they_are_asked_for() -> None:
    outline = [(0.0, 0.0, 1.0, 0.0, 1.0, 1.0)]

    def stub(unasked: str | None, asked: str | None) -> SimpleNamespace:
        def predict(images: object, settings: object) -> list[list[Prediction]]:
            mask = asked if settings.masks else unasked  # type: ignore[attr-defined]
            return [[Prediction(0, 0.5, (0, 0, 1, 1), outline, mask=mask)]]

        answers = predict(None, PredictionSettings())
        return SimpleNamespace(task="segmentation", predictor=SimpleNamespace(predict=predict), answers=answers)

    assert predicted.masks(stub(None, "code")) is None  # type: ignore[arg-type]
    with pytest.raises(Broken, match="A mask is given that was not asked for"):
        predicted.masks(stub("code", "code"))  # type: ignore[arg-type]
    with pytest.raises(Broken, match="has no mask, though masks were asked for"):
        predicted.masks(stub(None, None))  # type: ignore[arg-type]
    with pytest.raises(NotChecked):
        predicted.masks(SimpleNamespace(task="pose"))  # type: ignore[arg-type]


def test_a_dataset_can_be_removed_by_any_later_process_of_the_same_user() -> None:
    """A check that was killed can't give the right to write back."""
    dataset = subject.Subject("toy", trainer("toy"), "detection", {}).dataset
    folders = [path for path in (dataset, *dataset.rglob("*")) if path.is_dir()]
    assert all(path.stat().st_mode & stat.S_IWUSR for path in folders)
    assert not [path for path in dataset.rglob("*") if path not in folders and path.stat().st_mode & stat.S_IWUSR]


def test_a_trainer_of_an_older_protocol_is_asked_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(catalog.load(TRAINERS, "failing")), "protocol", 1)
    (only,) = promises("failing")
    assert "version 1 of the trainers' protocol" in only.outcome().sentence
    with pytest.raises(VisionloopError):
        only()
