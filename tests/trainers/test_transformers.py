"""The trainer transformers: names, settings, targets, detections, and folders of weights. The conformance suite trains it."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from loop_training import Silent, write
from PIL import Image

from visionloop.core.errors import InvalidConfig, InvalidReceipt
from visionloop.training import weights as starting_weights
from visionloop.training.configuration import resolve
from visionloop.training.configuration.settings import settings_of
from visionloop.training.trainers import PredictionSettings, TrainingJob, TrainingResult
from visionloop.training.trainers.transformers import TRAINER, names

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from visionloop.training.trainers.transformers.learner import TransformersLearner

SIDE = 64
MODELS = ["dfine_tiny", "rtdetr_tiny", "rtdetr_v2_tiny"]
CLASSES = ("blue", "red")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("dataset"), "detection")


def configuration(**more: object) -> dict[str, Any]:
    defaults = {name: setting.default for name, setting in settings_of(TRAINER, "detection").items()}
    small = {"imgsz": SIDE, "epochs": 1, "batch": 3, "workers": 0, "device": "cpu", "model": "rtdetr_tiny.yaml"}
    return defaults | small | more


def train(
    dataset: Path,
    work: Path,
    weights: Path | None = None,
    checkpoint: Path | None = None,
    listener: Silent | None = None,
    classes: tuple[str, ...] = CLASSES,
    **more: Any,
) -> TrainingResult:
    work.mkdir(parents=True)
    job = TrainingJob("detection", dataset, classes, configuration(**more), weights, work, checkpoint, 3)
    return TRAINER.train(job, listener or Silent())


def detector(
    dataset: Path, work: Path, weights: Path | None, classes: tuple[str, ...], **more: Any
) -> TransformersLearner:
    """What the loop would train."""
    import torch

    from visionloop.training.trainers.transformers.learner import TransformersLearner

    job = TrainingJob("detection", dataset, classes, configuration(**more), weights, work, None, 3)
    return TransformersLearner(job, torch.device("cpu"), Silent())


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    return train(dataset, tmp_path_factory.mktemp("trained") / "work")


def test_the_documented_defaults() -> None:
    settings = settings_of(TRAINER, "detection")
    # FACTS of the seeds, section 2.
    assert {name: settings[name].default for name in ("weight_decay", "max_grad_norm", "amp")} == {
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "amp": True,
    }


def test_half_precision_by_the_librarys_own_name() -> None:
    assert TRAINER.normalise({"fp16": False}, "detection") == {"amp": False}
    with pytest.raises(InvalidConfig, match="fp16 True and amp False are the same setting with two values: give amp"):
        TRAINER.normalise({"fp16": True, "amp": False}, "detection")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"warmup_ratio": 0.1}, "is not a setting: give warmup_epochs, which is this times epochs"),
        ({"gradient_accumulation_steps": 4}, "is not a setting: give as batch the images of a whole step"),
        ({"gradient_checkpointing": True}, "is not a setting: leave it out"),
        ({"save_steps": 1000}, "is not a setting: leave it out"),
    ],
)
def test_what_the_librarys_own_training_knows_is_told(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        resolve({"trainer": "transformers", **settings}, {"transformers": TRAINER}, {}, "detection")


@pytest.mark.parametrize("model", ["rtdetr_r18vd", "rtdetr_v2_r50vd", "dfine_small", *MODELS])
def test_an_architecture(model: str) -> None:
    assert TRAINER.is_architecture(f"{model}.yaml")
    assert not TRAINER.is_architecture(model)
    assert TRAINER.model_task(model) == "detection"
    assert TRAINER.weights_names(model) == (f"{model}/", f"{model}.safetensors")
    assert TRAINER.weights_names(f"{model}.yaml") == ()


@pytest.mark.parametrize("model", ["yolo11n", "rtdetr", "rtdetr_r19vd", "s3://x/rtdetr_tiny", "fcos_tiny"])
def test_what_is_not_an_architecture(model: str) -> None:
    assert TRAINER.model_task(model) is None
    assert not TRAINER.is_architecture(f"{model}.yaml")


def test_its_default_is_an_architecture_and_its_rates_are_those_of_transformers() -> None:
    settings = settings_of(TRAINER, "detection")
    assert TRAINER.is_architecture(f"{settings['model'].default}.yaml")
    assert (settings["optimizer"].default, settings["lr0"].default) == ("AdamW", 0.0001)
    assert "iou" not in settings


def test_augment_false_contradicts_an_augmentation() -> None:
    assert TRAINER.normalise({"augment": "false"}, "detection")["fliplr"] == 0.0
    with pytest.raises(InvalidConfig, match=r"augment is false, but fliplr is 0\.5"):
        TRAINER.normalise({"augment": False, "fliplr": 0.5}, "detection")


@pytest.mark.parametrize("name", sorted(names.ARCHITECTURES))
def test_the_library_knows_each_architecture(name: str) -> None:
    """Without building it: the sizes of the features fit those that the rest of the model takes."""
    from visionloop.training.trainers.transformers.model import configuration_of

    family, changes = names.ARCHITECTURES[name]
    values = configuration_of(family, changes)
    backbone = values["backbone_config"]
    widths = backbone.get("stage_out_channels") or backbone["hidden_sizes"]
    assert list(widths) == backbone["hidden_sizes"]
    chosen = [widths[index - 1] for index in changes["backbone_config"]["out_indices"]]
    assert chosen == list(values["encoder_in_channels"])
    assert len(chosen) == values["num_feature_levels"] == len(values["feat_strides"])
    assert json.loads(json.dumps(values)) == json.loads(json.dumps(configuration_of(family, values)))
    assert not {"transformers_version", "id2label", "_name_or_path"} & set(values)


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_of_the_loss_are_all_of_it_and_heads_have_a_row_for_each_class(name: str) -> None:
    import torch

    from visionloop.training.pytorch.objects.pictures import Targets
    from visionloop.training.trainers.transformers import learner
    from visionloop.training.trainers.transformers.model import build, configuration_of, heads

    family, changes = names.ARCHITECTURES[name]
    model = build(family, configuration_of(family, {**changes, "freeze_backbone_batch_norms": False}), 13)
    own = model.state_dict()
    of_classes = {key for key, value in own.items() if value.ndim and value.shape[0] in (13, 14)}
    assert {head.tensor for head in heads(model)} == of_classes
    boxes = np.array([[8, 16, 40, 48], [5, 5, 5, 9]], np.float32)
    made = learner.target(Targets(np.array([6, 1]), boxes, [], None), SIDE, torch.device("cpu"))
    assert made["class_labels"].tolist() == [6]
    assert made["boxes"].tolist() == [[0.375, 0.5, 0.5, 0.5]]
    nothing = learner.target(Targets(np.zeros(0, np.int64), boxes[:0], [], None), SIDE, torch.device("cpu"))
    pictures = torch.rand(2, 3, SIDE, SIDE)
    for labels in ([made, nothing], [nothing, nothing]):
        torch.manual_seed(0)
        output = model(pixel_values=pictures, labels=labels)
        parts = learner.parts(output.loss_dict)
        assert set(parts) <= set(learner.LOSSES.values())
        assert sum(value.item() for value in parts.values()) == pytest.approx(output.loss.item(), rel=1e-5)


def test_detections_are_decoded_as_the_library_does() -> None:
    import torch

    from visionloop.training.trainers.transformers.environment import library
    from visionloop.training.trainers.transformers.model import Description

    torch.manual_seed(0)
    output = SimpleNamespace(logits=torch.randn(2, 10, 3), pred_boxes=torch.rand(2, 10, 4))
    about = Description(["a", "b", "c"], SIDE, "detection", 10, "rt_detr", {})
    whole, cut = about.find(lambda **_: output, torch.zeros(2, 3, SIDE, SIDE))  # type: ignore[arg-type]
    results = [whole.inside((SIDE, SIDE)), cut.inside((SIDE, 10))]
    processor = library().RTDetrImageProcessorPil()
    expected = processor.post_process_object_detection(output, threshold=0.0, target_sizes=[[SIDE, SIDE]] * 2)
    assert results[0].scores == pytest.approx(expected[0]["scores"].numpy())
    assert results[0].classes.tolist() == expected[0]["labels"].tolist()
    assert results[0].boxes == pytest.approx(expected[0]["boxes"].numpy(), abs=1e-4)
    # What lies outside the picture is left out.
    inside = expected[1]["boxes"].numpy()[:, 1] < 10
    assert results[1].boxes == pytest.approx(expected[1]["boxes"].numpy()[inside], abs=1e-4)


# A model


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("dfine_tiny", marks=pytest.mark.matrix),
        "rtdetr_tiny",
        pytest.param("rtdetr_v2_tiny", marks=pytest.mark.matrix),
    ],
)
def test_a_resumed_training_gives_the_same_bytes(dataset: Path, tmp_path: Path, model: str) -> None:
    whole = train(dataset, tmp_path / "whole", model=f"{model}.yaml", epochs=2)
    listener = Silent(last=1)
    train(dataset, tmp_path / "first", model=f"{model}.yaml", epochs=2, listener=listener)
    (tmp_path / "epoch.pt").write_bytes(listener.checkpoint)
    resumed = train(dataset, tmp_path / "then", model=f"{model}.yaml", epochs=2, checkpoint=tmp_path / "epoch.pt")
    assert resumed.best.read_bytes() == whole.best.read_bytes()
    assert resumed.last.read_bytes() == whole.last.read_bytes()
    assert [entry["epoch"] for entry in resumed.history] == [1, 2]
    assert set(whole.history[0]["val_metrics"]) >= set(TRAINER.metrics["detection"])


def test_a_trained_model_answers(dataset: Path, trained: TrainingResult, tmp_path: Path) -> None:
    measured = TRAINER.evaluate(trained.best, dataset, "test", configuration(), tmp_path, lambda *_: None)
    assert set(TRAINER.metrics["detection"]) <= set(measured.metrics)
    assert measured.images == 3
    predictor = TRAINER.predictor(trained.best)
    assert predictor.classes == CLASSES
    picture = np.asarray(Image.open(next((dataset / "images/test").iterdir())))
    for pixels in (picture, np.zeros((1, 1, 3), np.uint8), np.full((200, 30, 3), 90, np.uint8)):
        height, width = pixels.shape[:2]
        (result,) = predictor.predict([pixels], PredictionSettings(0.0))
        assert result
        assert [entry.confidence for entry in result] == sorted((entry.confidence for entry in result), reverse=True)
        for entry in result:
            assert entry.box is not None
            left, top, right, bottom = entry.box
            assert 0 <= left <= right <= width
            assert 0 <= top <= bottom <= height
            assert entry.class_index in (0, 1)
    assert list(predictor.predict([picture], PredictionSettings(1.0))) == [[]]


def test_a_picture_too_small_for_the_queries_has_its_sentence(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="imgsz is 64, where this model has 84 features for its 300 queries"):
        train(dataset, tmp_path / "work", model="rtdetr_r18vd.yaml")


@pytest.mark.parametrize(
    ("model", "side", "fits"),
    [("rtdetr_r18vd.yaml", 64, False), ("rtdetr_r18vd.yaml", "160", True), ("dfine_nano.yaml", 256, True),
     ("dfine_nano.yaml", 224, False), ("rtdetr_tiny.yaml", 64, True), ("photos/model", 64, True), (None, 64, False)],
)  # fmt: skip
def test_such_a_size_is_refused_before_anything_starts(model: str | None, side: object, fits: bool) -> None:
    values = {"imgsz": side, **({"model": model} if model else {})}
    with nullcontext() if fits else pytest.raises(InvalidConfig, match="features for its 300 queries"):
        TRAINER.normalise(values, "detection")


def test_numbers_that_are_not_finite_reach_the_loop(dataset: Path, tmp_path: Path) -> None:
    """The library's matching raises of them, and the loop says that the training diverged."""
    import torch

    it = detector(dataset, tmp_path / "work", None, CLASSES)
    with torch.no_grad():
        for parameter in it.model.parameters():
            parameter.fill_(torch.nan)
    it.model.train()
    losses = it.losses(next(it.train.of(1)))
    assert torch.isnan(torch.stack(list(losses.values())).sum())


# Weights


def saved(folder: Path, model: str = "rtdetr_tiny", classes: tuple[str, ...] = ("Red ", "green", "blue")) -> Path:
    """A folder of weights as the library itself saves it, with random weights."""
    import torch

    from visionloop.training.trainers.transformers.environment import library

    family, changes = names.ARCHITECTURES[model]
    configuration_class, model_class = (getattr(library(), name) for name in names.FAMILIES[family])
    torch.manual_seed(3)
    settings = {**changes, "id2label": dict(enumerate(classes))} if classes else {**changes, "num_labels": 3}
    model_class(configuration_class.from_dict(settings)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("published"))


@pytest.mark.parametrize("model", MODELS)
def test_a_folder_that_the_library_saved_goes_on_by_the_names_of_its_classes(tmp_path: Path, model: str) -> None:
    from safetensors.torch import load_file

    from visionloop.training.pytorch.starting import fill
    from visionloop.training.trainers.transformers import folder
    from visionloop.training.trainers.transformers.model import build, heads

    path = saved(tmp_path / "weights", model)
    family, configuration, weights = folder.read(path, "given")
    assert weights.classes == ["Red ", "green", "blue"]
    # A folder's own choice stays: published models keep the backbone's normalisations.
    assert configuration["freeze_backbone_batch_norms"] is True
    new = build(family, configuration, 2)
    fill(new, weights, heads(new), CLASSES)
    tensors, own = load_file(path / "model.safetensors"), new.state_dict()
    name = next(name for name in tensors if name.endswith("class_embed.0.weight"))
    assert own[name].tolist() == tensors[name][[2, 0]].tolist()
    noisy = "model.denoising_class_embed.weight"
    assert own[noisy][:2].tolist() == tensors[noisy][[2, 0]].tolist()
    body = next(name for name in tensors if "backbone" in name and tensors[name].ndim == 4)
    assert own[body].equal(tensors[body])


def test_a_training_goes_on_from_a_folder_and_from_its_champion(
    dataset: Path, published: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    located = starting_weights.locate(str(published), TRAINER, {}, lambda *_: None, tmp_path)
    assert located.files == ("config.json", "model.safetensors")
    copied = starting_weights.materialise(located, lambda *_: None, tmp_path)
    assert copied is not None
    first = train(dataset, tmp_path / "first", copied, model=str(published))
    assert "2 go on by their names; none is new, green is dropped" in caplog.text
    caplog.clear()
    detector(dataset, tmp_path / "then", first.best, ("red", "green"), model="models:/x@champion")
    assert "1 go on by their names; green is new, blue is dropped" in caplog.text


def test_a_pickle_of_tensors_is_read_and_another_one_is_not(published: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from visionloop.training.trainers.transformers import folder

    (tmp_path / "config.json").write_bytes((published / "config.json").read_bytes())
    torch.save(load_file(published / "model.safetensors"), tmp_path / "pytorch_model.bin")
    _, _, weights = folder.read(tmp_path, "given")
    assert len(weights.tensors) > 100
    torch.save(Silent(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidConfig, match="the starting weights given can't be read: give a folder with"):
        folder.read(tmp_path, "given")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[", "is not a JSON object"),
        ("[]", "is not a JSON object"),
        (
            '{"model_type": "bert"}',
            r"are of the kind bert by their config\.json, and the trainer transformers trains d_fine, rt",
        ),
        ("{}", "are of the kind None"),
        ('{"model_type": "rt_detr", "id2label": {"a": "b"}}', "is not class names by number"),
        ('{"model_type": "rt_detr", "id2label": {"1": "b"}}', "are not 0 to 0"),
        ('{"model_type": "rt_detr", "d_model": "wide"}', r"is not one of rt_detr \(.*d_model.*\): put"),
        ('{"model_type": "rt_detr", "backbone_config": {"model_type": "none"}}', "is not one of rt_detr"),
    ],
)
def test_a_configuration_that_is_not_one(published: Path, tmp_path: Path, content: str, sentence: str) -> None:
    from visionloop.training.trainers.transformers import folder

    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").symlink_to(published / "model.safetensors")
    with pytest.raises(InvalidConfig, match=sentence):
        folder.read(tmp_path, "given")


def test_tensors_of_another_model_and_names_that_are_none(published: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from visionloop.training.pytorch.starting import fill
    from visionloop.training.trainers.transformers import folder
    from visionloop.training.trainers.transformers.model import build, heads

    values = json.loads((published / "config.json").read_text())
    values["id2label"] = {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    save_file({"x": torch.zeros(3)}, tmp_path / "model.safetensors")
    family, configuration, weights = folder.read(tmp_path, "given")
    assert weights.classes == []
    new = build(family, configuration, 2)
    with pytest.raises(InvalidConfig, match="the starting weights given have 0: they are of another architecture"):
        fill(new, weights, heads(new), CLASSES)


def test_weights_of_another_trainer_are_refused(dataset: Path, published: Path, tmp_path: Path) -> None:
    from visionloop.training.pytorch import models

    foreign = models.write({}, {"architecture": "resnet18", "classes": []}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidConfig, match="are of another trainer than transformers: choose others"):
        train(dataset, tmp_path / "one", foreign, model="models:/x@champion")
    with pytest.raises(InvalidConfig, match="are of one file without a configuration: give a folder"):
        train(dataset, tmp_path / "two", published / "model.safetensors", model="a.safetensors")
    with pytest.raises(InvalidReceipt, match="can't be loaded"):
        TRAINER.predictor(foreign)
