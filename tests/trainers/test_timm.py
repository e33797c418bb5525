"""The trainer timm: names, settings, starting weights and what a class folder gives. The conformance suite trains it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from loop_training import Silent
from PIL import Image

from visionloop.core.errors import InvalidConfig, InvalidDataset, InvalidReceipt
from visionloop.training.configuration import resolve
from visionloop.training.configuration.settings import settings_of
from visionloop.training.trainers import PredictionSettings, TrainingJob, TrainingResult
from visionloop.training.trainers.timm import TRAINER
from visionloop.training.trainers.timm.environment import library

if TYPE_CHECKING:
    from visionloop.training.trainers.timm.learner import TimmLearner

SMALL = {"model": "test_resnet.yaml", "imgsz": 32, "epochs": 2, "batch": 4, "workers": 0, "device": "cpu", "lr0": 0.05}
CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured squares; val lacks the last class."""
    root, random = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 3), ("test", 3)):
        for index, name in enumerate(CLASSES):
            folder = root / split / f"{index:05}_{name}"
            folder.mkdir(parents=True)
            for number in range(0 if split != "train" and index == 2 else count):
                pixels = random.integers(0, 60, (20 + number, 33, 3), dtype=np.uint8)
                pixels[..., index] += 180
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def configuration(**more: object) -> dict[str, Any]:
    defaults = {name: setting.default for name, setting in settings_of(TRAINER, "classification").items()}
    return defaults | SMALL | more


def train(dataset: Path, work: Path, listener: Silent | None = None, **more: Any) -> TrainingResult:
    work.mkdir()
    weights, classes, batch = more.pop("weights", None), more.pop("classes", CLASSES), more.pop("fits", 4)
    job = TrainingJob("classification", dataset, classes, configuration(**more), weights, work, None, batch)
    return TRAINER.train(job, listener or Silent())


def learning(dataset: Path, work: Path, weights: Path | None = None, **more: Any) -> TimmLearner:
    """What the loop would train."""
    from visionloop.training.trainers.timm.learner import TimmLearner

    classes = more.pop("classes", CLASSES)
    job = TrainingJob("classification", dataset, classes, configuration(**more), weights, work, None, 4)
    return TimmLearner(job, torch.device("cpu"), Silent())


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    return train(dataset, tmp_path_factory.mktemp("trained") / "work", epochs=6)


@pytest.mark.parametrize(
    "model", ["resnet18.yaml", "vit_tiny_patch16_224.yaml", "convnextv2_atto.yml", "resnet18.a1_in1k.yaml"]
)
def test_an_architecture_by_its_name(model: str) -> None:
    assert TRAINER.is_architecture(model)
    assert TRAINER.weights_names(model) == ()
    assert TRAINER.model_task(model) == "classification"


@pytest.mark.parametrize(
    "model",
    ["resnet18", "resnet18.a1_in1k", "resnet18.a.b.yaml", "no_such_net.yaml", "yolo11n.yaml", "a/resnet18.yaml"],
)
def test_what_is_no_architecture(model: str) -> None:
    assert not TRAINER.is_architecture(model)


def test_weights_are_looked_for_by_the_names_that_they_are_published_under() -> None:
    assert TRAINER.weights_names("resnet18.a1_in1k")[:2] == ("resnet18.a1_in1k.safetensors", "resnet18.a1_in1k.pth")
    assert TRAINER.model_task("resnet18.a1_in1k") == "classification"
    assert TRAINER.model_task("/weights/x.pth") is None


def test_the_documented_defaults() -> None:
    settings = settings_of(TRAINER, "classification")
    # FACTS of the seeds, section 2.
    assert {
        name: settings[name].default for name in ("drop_rate", "drop_path_rate", "mixup_alpha", "cutmix_alpha")
    } == {
        "drop_rate": 0.0,
        "drop_path_rate": 0.1,
        "mixup_alpha": 0.8,
        "cutmix_alpha": 1.0,
    }
    names = ("label_smoothing", "aa", "reprob", "remode", "model_ema", "model_ema_decay", "primary_metric", "imgsz")
    assert [settings[name].default for name in names] == [
        *(0.1, "rand-m9-mstd0.5", 0.25, "pixel"),
        *(True, 0.9999, "accuracy_top1", 224),
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"auto_augment": "v0", "re_prob": 0.5, "lr": 0.1}, {"aa": "v0", "reprob": 0.5, "lr0": 0.1}),
        ({"aa": "RAND-M7"}, {"aa": "rand-m7"}),
        ({"aa": False}, {"aa": "none"}),
        ({"smoothing": 0.1, "label_smoothing": 0.1}, {"label_smoothing": 0.1}),
        ({"class_weights": "balanced", "mixup_alpha": 0, "cutmix_alpha": 0.0}, {"class_weights": "balanced"}),
    ],
)
def test_settings_by_the_librarys_own_names(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    values = TRAINER.normalise(settings, "classification")
    assert {name: values[name] for name in expected} == expected
    assert TRAINER.normalise(values, "classification") == values


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"aa": "random"}, r"aa is 'random': give a recipe such as rand-m9-mstd0\.5"),
        *(
            ({"aa": recipe}, f"aa is '{recipe}': give a recipe")
            for recipe in ("rand-x3", "augmix-q2", "v0-n2", "3a-m3", "rand-m9.5", "augmix-w1.5", "rand-n0", "augmix-w0")
        ),
        ({"re_prob": 0.1, "reprob": 0.2}, "re_prob 0.1 and reprob 0.2 are the same setting with two values"),
        ({"augment": False, "mixup_alpha": 0.2}, "augment is false, but mixup_alpha is 0.2"),
        ({"class_weights": "balanced"}, "class_weights is balanced, but mixup_alpha and cutmix_alpha blend"),
        ({"cache": "ram"}, "keeps no decoded images"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        TRAINER.normalise(settings, "classification")


@pytest.mark.parametrize(
    "recipe",
    [
        *("none", "rand", "augmix", "3a", "v0", "v0r", "original", "originalr-mstd0.5", "rand-m9-n3-mstd0.5"),
        *("rand-m7-mmax20-inc1-p0.3", "rand-mstd101-tweights", "rand-t3a-n1", "augmix-m5-w4-d2-a0.5-b1-mstd1"),
    ],
)
def test_recipes_of_augmentation_are_the_librarys(recipe: str) -> None:
    from visionloop.training.trainers.timm.model import Description

    assert TRAINER.normalise({"aa": recipe}, "classification")["aa"] == recipe
    transform = Description.of("test_resnet", CLASSES, 32).training_transform(configuration(aa=recipe))
    assert transform(Image.new("RGB", (40, 40))).shape == (3, 32, 32)


@pytest.mark.parametrize("name", ["Posterize", "PosterizeIncreasing", "PosterizeOriginal"])
def test_a_recipe_that_keeps_no_bit_of_a_colour_makes_a_black_picture(name: str) -> None:
    posterize = library().data.auto_augment.NAME_TO_OP[name]
    picture = Image.new("RGB", (4, 3), (200, 100, 50))
    assert posterize(picture, 0).getcolors() == [(12, (0, 0, 0))]
    assert posterize(picture, 1).getcolors() == [(12, (128, 0, 0))]
    assert posterize(picture, 9) == picture


def test_settings_are_checked_as_all_others() -> None:
    for value, sentence in (({"mosaic": 1}, "'mosaic' in .* is not a setting"), ({"drop_rate": 2}, "drop_rate")):
        with pytest.raises(InvalidConfig, match=sentence):
            resolve({"trainer": "timm", **value}, {"timm": TRAINER}, {}, "classification")


def test_it_learns_and_lacks_no_class(trained: TrainingResult, dataset: Path, tmp_path: Path) -> None:
    assert trained.best.suffix == ".safetensors"
    measured = TRAINER.evaluate(trained.best, dataset, "test", configuration(), tmp_path, lambda *_: None)
    assert measured.metrics["accuracy_top1"] >= 0.5
    assert set(measured.per_class) == {"red", "green"}
    assert sorted(measured.files) == sorted(str(path.relative_to(dataset)) for path in dataset.glob("test/*/*"))
    assert "no image of this class" in measured.not_measured_per_class["blue"]["accuracy_top1"]
    predictor = TRAINER.predictor(trained.best)
    assert predictor.classes == CLASSES
    (result,) = predictor.predict([np.full((9, 70, 3), (200, 10, 10), np.uint8)], PredictionSettings(classes=2))
    assert len(result) == 2
    assert result[0].confidence >= result[1].confidence
    assert result[0].box is None


def test_a_model_that_is_asked_leaves_torchs_threads_as_they_are(
    trained: TrainingResult, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(TRAINER.predictor(trained.best).predict([np.zeros((9, 9, 3), np.uint8)]))
        assert torch.get_num_threads() == 2
        TRAINER.evaluate(trained.best, dataset, "val", configuration(), tmp_path, lambda *_: None)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_an_epoch_is_measured_as_an_evaluation_measures(trained: TrainingResult, dataset: Path, tmp_path: Path) -> None:
    measured = TRAINER.evaluate(trained.best, dataset, "val", configuration(), tmp_path, lambda *_: None)
    best = trained.history[trained.best_epoch - 1]["val_metrics"]
    assert measured.metrics == {name: best[name] for name in measured.metrics}


def test_blended_labels_keep_their_sum(dataset: Path, tmp_path: Path) -> None:
    from visionloop.training.trainers.timm.learner import TimmLearner

    for fits in (3, 4):
        job = TrainingJob("classification", dataset, CLASSES, configuration(batch=fits), None, tmp_path, None, fits)
        blended = TimmLearner(job, torch.device("cpu"), Silent())
        images, labels = next(blended.train.of(1))
        _, target = blended._blended(blended._mixup, images, labels)
        assert torch.allclose(target.sum(1), torch.ones(len(labels)))
        assert len(target) == len(labels)


def test_balanced_weights_are_one_in_the_mean_over_images() -> None:
    from visionloop.training.trainers.timm.learner import _balanced

    labels = [0] * 6 + [1] * 2
    weights = _balanced(labels, 3)
    assert weights.tolist() == pytest.approx([8 / 12, 2.0, 0.0])
    assert sum(float(weights[label]) for label in labels) == pytest.approx(8)


def test_the_backbone_can_be_frozen(dataset: Path, tmp_path: Path, trained: TrainingResult) -> None:
    from visionloop.training.pytorch import models

    listener = Silent()
    frozen = train(dataset, tmp_path / "work", listener, weights=trained.best, freeze="backbone", epochs=1)
    assert set(listener.reports[0].seconds) == {"loading", "computing", "validating"}
    before, after = (models.read(path)[1] for path in (trained.best, frozen.last))
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved == {"fc.weight", "fc.bias"}


def test_a_champions_classes_go_on_by_their_names(
    dataset: Path, tmp_path: Path, trained: TrainingResult, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(
        dataset, tmp_path / "work", weights=trained.best, model="models:/colours@champion", classes=("Blue", "x", "red")
    )
    assert (
        "of the classes of the starting weights models:/colours@champion 2 go on by their names; x is new, green is dropped"
        in caplog.text
    )


@pytest.mark.parametrize(
    "architecture", ["test_resnet", "levit_128s", "deit_tiny_distilled_patch16_224", "crossvit_tiny_240"]
)
def test_each_row_of_a_class_goes_on_by_its_name_wherever_the_model_has_it(
    dataset: Path, tmp_path: Path, architecture: str
) -> None:
    from visionloop.training.pytorch import models
    from visionloop.training.trainers.timm.model import Description

    about = Description.of(architecture, CLASSES, 224)
    before = {name: torch.rand_like(value.float()) for name, value in about.build().state_dict().items()}
    path = models.write(before, about.as_json(), tmp_path / "x.safetensors")
    learner = learning(dataset, tmp_path, path, classes=CLASSES[::-1], freeze="backbone", imgsz=224)
    trained = {name for name, parameter in learner.model.named_parameters() if parameter.requires_grad}
    assert trained
    for name, value in learner.model.state_dict().items():
        assert torch.equal(
            value.float(), before[name].flip(0) if name in trained else before[name].to(value.dtype).float()
        )
    assert all(before[name].shape[0] == len(CLASSES) for name in trained)


@pytest.mark.parametrize("architecture", ["test_vit", "test_vit2", "test_byobnet"])
def test_weights_go_on_at_another_image_size(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, architecture: str
) -> None:
    from visionloop.training.pytorch import models
    from visionloop.training.trainers.timm.model import Description

    about = Description.of(architecture, CLASSES, 64)
    state = about.build().state_dict()
    if "pos_embed" in state:
        state["pos_embed"] = torch.full_like(state["pos_embed"], 3.0)
    path = models.write(state, about.as_json(), tmp_path / "x.safetensors")
    caplog.set_level(logging.INFO)
    learner = learning(dataset, tmp_path, path, imgsz=96)
    assert "begin anew" not in caplog.text
    for name, value in learner.model.state_dict().items():
        assert torch.allclose(value, state[name] if name != "pos_embed" else torch.full_like(value, 3.0)), name


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("vit_tiny_patch16_224", ([0.5, 0.5, 0.5], "bicubic", "center")),
        ("vit_base_patch16_224.dino", ([0.485, 0.456, 0.406], "bicubic", "center")),
        ("vit_base_patch16_224.mine", ([0.5, 0.5, 0.5], "bicubic", "center")),
        ("convnextv2_huge.fcmae_ft_in22k_in1k_384", ([0.485, 0.456, 0.406], "bicubic", "squash")),
    ],
)
def test_pictures_are_prepared_as_the_weights_need(model: str, expected: tuple[list[float], str, str]) -> None:
    from visionloop.training.trainers.timm import names
    from visionloop.training.trainers.timm.model import Description

    about = Description.of(names.architecture(model) or "", CLASSES, 64)
    assert (about.mean, about.interpolation, about.crop_mode) == expected
    # A model that goes on from this one is prepared in the same way; the library knows the name.
    assert Description.of(about.architecture, CLASSES, 64) == about
    assert (about.architecture == model) == (".mine" not in model)
    seen = about.transform()(Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3))))
    cut = (seen[0, 0, 0] * about.std[0] + about.mean[0]) * 255 > 30
    assert bool(cut) == (about.crop_mode == "center")


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(3000, 1), (10, 2001), (601, 60)])
def test_a_thin_picture_is_never_scaled_to_many_times_the_input(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], mode: str
) -> None:
    from dataclasses import replace

    from visionloop.training.trainers.timm.model import Description

    about = replace(Description.of("test_resnet", CLASSES, 64), crop_mode=mode)
    across = np.linspace(0, 255, size[0] * size[1]).reshape(size[::-1])
    picture = Image.fromarray(np.repeat(across[..., None], 3, axis=2).astype(np.uint8))
    scaled, resize = list[tuple[int, int]](), Image.Image.resize

    def noted(image: Image.Image, to: tuple[int, int], *more: Any) -> Image.Image:
        scaled.append(to)
        return resize(image, to, *more)

    monkeypatch.setattr(Image.Image, "resize", noted)
    seen = about.transform()(picture)
    assert scaled
    assert all(max(to) < 64 * 8 for to in scaled)
    # It is the middle that is looked at; a border has the mean colour.
    assert float(seen.mean() * about.std[0] + about.mean[0]) == pytest.approx(0.5, abs=0.05)


def test_a_model_that_tells_no_classes_is_refused() -> None:
    from visionloop.training.trainers.timm.model import Description

    about = Description.of("qwen3_vit_88m_enc", CLASSES, 224)
    with torch.device("meta"):
        model = about.build()
    with pytest.raises(InvalidConfig, match="qwen3_vit_88m_enc tells no classes: give another model"):
        about.heads(model)


def test_weights_that_do_not_fit(dataset: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2, 2)}, tmp_path / "resnet18.pth")
    with pytest.raises(InvalidConfig, match="they are of another architecture"):
        train(dataset, tmp_path / "one", weights=tmp_path / "resnet18.pth", model="resnet18")
    (tmp_path / "resnet18.pth").rename(tmp_path / "mine.pth")
    with pytest.raises(InvalidConfig, match=r"name the file for it, as in resnet18\.pth"):
        train(dataset, tmp_path / "two", weights=tmp_path / "mine.pth", model=str(tmp_path / "mine.pth"))


def test_a_model_of_another_trainer_is_refused(dataset: Path, tmp_path: Path) -> None:
    from visionloop.training.pytorch import models

    path = models.write({}, {"architecture": "fcos_tiny", "classes": ["a"], "max_det": 3}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidConfig, match="are of another trainer than timm"):
        train(dataset, tmp_path / "work", weights=path, model="models:/x@champion")
    with pytest.raises(InvalidReceipt, match="can't be loaded"):
        TRAINER.predictor(path)


def test_an_architecture_without_drop_path_is_trained_and_tells(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(dataset, tmp_path / "work", model="ghostnet_050.yaml", epochs=1)
    assert "the architecture ghostnet_050 takes no drop_path_rate, so it is not used" in caplog.text


@pytest.mark.parametrize("batch", [{"batch": 1}, {"fits": 1}])
def test_a_batch_of_one_that_the_model_can_not_bear_is_told(
    dataset: Path, tmp_path: Path, batch: dict[str, Any]
) -> None:
    with pytest.raises(InvalidConfig, match=r"needs more than one value.*larger batch or imgsz"):
        train(dataset, tmp_path / "work", model="resnest14d.yaml", model_ema=False, **batch)


def test_a_split_without_images_or_with_other_folders(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="folders of classes, and the dataset has 4 classes"):
        train(dataset, tmp_path / "work", classes=(*CLASSES, "more"))
    with pytest.raises(InvalidDataset, match="has no image"):
        train(tmp_path / "nothing", tmp_path / "other")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_damaged_image_is_named(dataset: Path, tmp_path: Path, split: str, workers: int) -> None:
    broken = shutil.copytree(dataset, tmp_path / "d") / split / "00000_red" / "0.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(InvalidDataset, match=r"^0\.png is not a PNG[^\n]*$"):
        train(tmp_path / "d", tmp_path / "work", epochs=1, workers=workers)
