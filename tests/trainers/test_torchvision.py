"""The trainer torchvision: names, settings, labels, pictures, masks and starting weights. The conformance suite trains it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_training import Silent, write
from PIL import Image

from visionloop.core.errors import InvalidConfig, InvalidDataset, InvalidReceipt
from visionloop.data import view
from visionloop.data.annotations import masks
from visionloop.training import labels
from visionloop.training.configuration.settings import settings_of
from visionloop.training.pytorch.objects import pictures
from visionloop.training.trainers import PredictionSettings, TrainingJob, TrainingResult
from visionloop.training.trainers.torchvision import TRAINER, names

MODELS = {"detection": "fcos_tiny", "segmentation": "maskrcnn_tiny", "pose": "keypointrcnn_tiny"}
TASKS = sorted(MODELS)
POINTS = ("left", "right")
SIDE = 64


#: One task of those that look for objects is enough for a change that was just made.
TRAINED = [task if task == "detection" else pytest.param(task, marks=pytest.mark.slow) for task in TASKS]


@pytest.fixture(scope="module", params=TRAINED)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def dataset(task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp(task), task)


def configuration(task: str, **more: object) -> dict[str, Any]:
    defaults = {name: setting.default for name, setting in settings_of(TRAINER, task).items()}
    small = {"imgsz": SIDE, "epochs": 1, "batch": 3, "workers": 0, "device": "cpu", "model": f"{MODELS[task]}.yaml"}
    return defaults | small | more


def train(task: str, dataset: Path, work: Path, weights: Path | None = None, **more: Any) -> TrainingResult:
    work.mkdir(parents=True)
    classes, points = more.pop("classes", ("blue", "red")), more.pop("keypoints", POINTS if task == "pose" else ())
    job = TrainingJob(
        task,
        dataset,
        classes,
        configuration(task, **more),
        weights,
        work,
        None,
        3,
        points,
        (1, 0)[: len(points)] if len(points) > 1 else (),
    )
    return TRAINER.train(job, Silent())


@pytest.fixture(scope="module")
def trained(task: str, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    return train(task, dataset, tmp_path_factory.mktemp("trained") / "work")


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_family(task: str) -> None:
    model = settings_of(TRAINER, task)["model"].default
    assert model == names.default_model(task)
    assert TRAINER.model_task(str(model)) == task
    assert TRAINER.is_architecture(f"{model}.yaml")
    assert not TRAINER.is_architecture(str(model))
    assert TRAINER.weights_names(str(model))[-1].startswith(f"{model}_coco-")
    assert TRAINER.weights_names(f"{MODELS[task]}") == tuple(
        f"{MODELS[task]}{end}" for end in (".safetensors", ".pth", ".pt")
    )


@pytest.mark.parametrize(
    "model", ["yolo11n", "fcos", "fcos_resnet18", "s3://x/fcos_tiny.pth", "retinanet_resnet50_fpn"]
)
def test_what_is_no_model(model: str) -> None:
    assert TRAINER.model_task(model) is None
    assert not TRAINER.is_architecture(f"{model}.yaml") or "/" in model


def test_augment_false_contradicts_an_augmentation() -> None:
    assert TRAINER.normalise({"augment": "false"}, "detection")["fliplr"] == 0.0
    with pytest.raises(InvalidConfig, match=r"augment is false, but fliplr is 0\.5"):
        TRAINER.normalise({"augment": False, "fliplr": 0.5}, "detection")


# Labels


@pytest.mark.parametrize(
    ("task", "text", "sentence"),
    [
        ("detection", b"0 0.5 0.5 0.1\n", "has not 5 numbers"),
        ("detection", b"0.5 0.5 0.5 0.1 0.1\n", "not a whole number"),
        ("detection", b"-1 0.5 0.5 0.1 0.1\n", "not a whole number"),
        ("detection", b"0 nan 0.5 0.1 0.1\n", "not finite"),
        ("detection", b"0 a 0.5 0.1 0.1\n", "could not convert"),
        ("segmentation", b"0 0 0 1 1\n", "corners of an outline"),
        ("segmentation", b"0 0 0 1 1 1 0 1\n", "corners of an outline"),
        ("pose", b"0 0.5 0.5 0.1 0.1 0.5 0.5\n", "has not 11 numbers"),
    ],
)
def test_a_label_that_is_none(tmp_path: Path, task: str, text: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        labels.parse(text, task, 2)
    root = write(tmp_path, task)
    (root / "labels" / "train" / "1.txt").write_bytes(text)
    with pytest.raises(InvalidDataset, match=r"labels/train/1\.txt: .*; correct it, or remove it"):
        labels.read(root, "train", labels.images(root, "train"), task, 2)


@pytest.mark.parametrize("task", TASKS)
def test_labels_come_from_the_archive_alone_where_there_is_one(tmp_path: Path, task: str) -> None:
    root = write(tmp_path, task)
    files = labels.images(root, "train")
    loose = labels.read(root, "train", files, task, 2)
    assert [len(label.classes) > 0 for label in loose] == [True] * 5 + [False]
    stems = [Path(file).stem for file in files]
    texts = [(f"labels/train/{stem}.txt", (root / "labels/train" / f"{stem}.txt").read_text()) for stem in stems]
    view.write_archive(root / view.LABELS, iter(texts))
    view.write_sizes(root, [view.ImageSize(f"images/train/{Path(file).name}", 80, 48) for file in files])
    for text in (root / "labels/train").iterdir():
        text.unlink()
    archived = labels.read(root, "train", files, task, 2)
    for first, other in zip(loose, archived, strict=True):
        assert np.array_equal(first.classes, other.classes)
        assert np.array_equal(first.boxes, other.boxes)
        assert len(first.polygons) == len(other.polygons)
        assert all(map(np.array_equal, first.polygons, other.polygons))
        assert (first.keypoints is None) == (other.keypoints is None) == (task != "pose")
        assert first.keypoints is None or np.array_equal(first.keypoints, other.keypoints)  # type: ignore[arg-type]
    (root / "images/train/new.png").write_bytes(Path(files[0]).read_bytes())
    with pytest.raises(InvalidReceipt, match=r"train/new\.txt has no label; run again with --force convert"):
        labels.read(root, "train", labels.images(root, "train"), task, 2)


def test_a_label_in_the_archive_that_convert_does_not_write_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, "detection")
    files = labels.images(root, "train")
    stems = [Path(file).stem for file in files]
    # The numbers of both lines together are those of two boxes.
    texts = [(f"labels/train/{stem}.txt", "0 0.5 0.5 0.1 0.1 1\n0 0.5 0.5 0.1\n") for stem in stems]
    texts[:-1] = [(name, "0 0.5 0.5 0.1 0.1\n") for name, _ in texts[:-1]]
    view.write_archive(root / view.LABELS, iter(texts))
    view.write_sizes(root, [])
    with pytest.raises(InvalidReceipt, match=rf"labels\.tar: train/{stems[-1]}\.txt is not what convert writes"):
        labels.read(root, "train", files, "detection")


def test_images_are_sorted_part_by_part_as_paths_are(tmp_path: Path) -> None:
    names = ["a/b.png", "a-b.png", "a.png", "a/b/c.png", "a/b-c.png", "A.png", "a b/c.png", "ä.png"]
    for name in names:
        (tmp_path / "images/train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images/train" / name).touch()
    expected = sorted(tmp_path / "images/train" / name for name in names)
    assert labels.images(tmp_path, "train") == [str(path) for path in expected]


# Pictures


def test_a_picture_is_shrunk_as_the_cache_shrinks_it() -> None:
    from visionloop.data.reduced import Reduction

    pixels = np.random.default_rng(1).integers(0, 255, (333, 500, 3), dtype=np.uint8)
    fitted, across, down = pictures.fitted(pixels, 128)
    assert fitted.shape[:2] == Reduction(128, "linear").size(500, 333)[::-1] == (86, 128)
    assert (across, down) == (128 / 500, 86 / 333)
    again, _, _ = pictures.fitted(fitted, 128)
    assert np.array_equal(again, fitted)


def test_objects_move_with_their_picture() -> None:
    """The pixels of a rectangle and its box, outline and keypoints end in one place, however it is moved."""
    config = {"scale": 0.4, "translate": 0.2, "fliplr": 0.5, "flipud": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}
    box = np.array([[20, 12, 44, 30]], np.float32)
    outline = np.array([[20, 12], [44, 12], [44, 30], [20, 30]], np.float32)
    points = np.array([[[20, 12, 2], [44, 30, 1]]], np.float32)
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[12:30, 20:44] = 255
    mirrored = set()
    for seed in range(30):
        np.random.seed(seed)
        objects = pictures.Targets(np.array([0]), box, [outline], points)
        moved, after = pictures.augmented(pixels, objects, SIDE, config, (1, 0))
        assert moved.shape == (SIDE, SIDE, 3)
        ys, xs = np.nonzero(moved[..., 0] > 150)
        if not len(after.classes):
            continue
        seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert after.boxes[0] == pytest.approx(seen, abs=1.2)
        drawn = pictures.drawn(after.polygons, SIDE)[0].astype(bool)
        assert (drawn ^ (moved[..., 0] > 150)).sum() <= 2 * (sum(drawn.shape))
        inside = after.keypoints is not None and after.keypoints[0, :, 2].all()
        if inside:
            assert after.keypoints is not None
            left, right = after.keypoints[0, :, 0]
            mirrored.add(bool(moved[0, 0, 0] == 0) and left > right)
            # The counterpart of a mirrored keypoint keeps its name: the left one stays on the left.
            assert left < right
    assert mirrored == {False}


def test_without_counterparts_no_pose_is_mirrored() -> None:
    config = {"scale": 0, "translate": 0, "fliplr": 1.0, "flipud": 1.0, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0}
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:, :10] = 255
    points = np.array([[[1, 1, 2]]], np.float32)
    objects = pictures.Targets(np.array([0]), np.array([[0, 0, 10, 64]], np.float32), [], points)
    moved, _ = pictures.augmented(pixels, objects, SIDE, config, ())
    assert np.array_equal(moved, pixels)
    plain = pictures.Targets(np.array([0]), np.array([[0, 0, 10, 64]], np.float32), [], None)
    moved, after = pictures.augmented(pixels, plain, SIDE, config, ())
    assert np.array_equal(moved, pixels[::-1, ::-1])
    assert after.boxes.tolist() == [[54, 0, 64, 64]]


@pytest.mark.parametrize("across", [0.0, 1.0])
@pytest.mark.parametrize("down", [0.0, 1.0])
def test_mirrored_keypoints_change_their_names(across: float, down: float) -> None:
    """Left and right of what is seen are those of a picture that was never mirrored; turned by half they stay what they are."""
    config = {"scale": 0, "translate": 0, "fliplr": across, "flipud": down, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0}
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[20, 10], pixels[50, 40] = 100, 200
    points = np.array([[[10.5, 20.5, 2], [40.5, 50.5, 2]]], np.float32)
    objects = pictures.Targets(np.array([0]), np.array([[0, 0, 64, 64]], np.float32), [], points)
    moved, after = pictures.augmented(pixels, objects, SIDE, config, (1, 0))
    assert after.keypoints is not None
    shades = [moved[int(y), int(x), 0] for x, y, _ in after.keypoints[0].tolist()]
    assert shades == ([200, 100] if across != down else [100, 200])


@pytest.mark.parametrize(
    ("mirrors", "flip", "notice"),
    [
        ({}, (), "fliplr has no effect"),
        ({"flipud": 0.5}, (), "fliplr and flipud have no effect"),
        ({"fliplr": 0.0}, (), ""),
        ({"augment": False}, (), ""),
        ({"flipud": 0.5}, (1, 0), ""),
    ],
)
def test_a_mirror_without_counterparts_is_told(
    mirrors: dict[str, object], flip: tuple[int, ...], notice: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from visionloop.training.trainers.torchvision.learner import TorchvisionLearner

    caplog.set_level(logging.INFO)
    config = configuration("pose", **mirrors)
    job = TrainingJob("pose", write(tmp_path, "pose"), ("x",), config, None, tmp_path, None, 3, POINTS, flip)
    TorchvisionLearner(job, torch.device("cpu"), Silent())
    assert caplog.text.count("a mirror swaps") == bool(notice)
    assert notice in caplog.text


def test_what_is_moved_out_of_the_picture_is_no_object() -> None:
    matrix = np.array([[1.0, 0, 60], [0, 1, 0]])
    boxes = np.array([[0, 0, 20, 20], [3, 0, 40, 20]], np.float32)
    moved = pictures._moved(pictures.Targets(np.array([4, 7]), boxes, [], None), matrix, SIDE, ())
    assert moved.classes.tolist() == [4]
    assert moved.boxes.tolist() == [[60, 0, 64, 20]]


OUTLINES = {
    "an L": [[0, 0], [20, 0], [20, 80], [100, 80], [100, 100], [0, 100]],
    "a band": [[0, 80], [80, 0], [100, 0], [100, 20], [20, 100], [0, 100]],
    "an arch": [[0, 60], [0, 0], [100, 0], [100, 60], [80, 60], [80, 20], [20, 20], [20, 60]],
    # Joined as convert joins them, there and back.
    "two squares": [[0, 0], [30, 0], [30, 30], [70, 70], [100, 70], [100, 100], [70, 100], [70, 70], [30, 30], [0, 30]],
    "a ring": [
        *([0, 0], [100, 0], [100, 100], [0, 100], [0, 0]),
        *([30, 30], [30, 70], [70, 70], [70, 30], [30, 30]),
    ],
}


@pytest.mark.parametrize("shape", OUTLINES)
def test_of_an_outline_that_is_moved_out_what_is_seen_is_the_object(shape: str) -> None:
    """Its box is that of its remaining pixels; without any there is no object."""
    side, outline = 128, np.array(OUTLINES[shape], np.float32)
    before = np.array([[*outline.min(0), *outline.max(0)]], np.float32)
    kept, gone = 0, 0
    for x, y in np.random.default_rng(1).uniform(-110, 140, (120, 2)).round(1).tolist():
        moved = pictures._moved(
            pictures.Targets(np.array([0]), before, [outline], None), np.array([[1.0, 0, x], [0, 1, y]]), side, ()
        )
        seen = masks._filled(outline.astype(np.float64) + np.array([x + 120, y + 120]), 370, 370)[120:248, 120:248]
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        if len(moved.classes):
            kept += 1
            assert moved.boxes[0] == pytest.approx([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=1.01)
            assert len(moved.polygons) == 1
        else:
            gone += 1
            assert not len(rows) or min(len(rows), len(columns)) <= 2 or len(rows) * len(columns) < 0.02 * 100 * 100
    assert kept > 25
    assert gone > 15


def test_the_box_of_an_outline_that_stays_inside_is_exact() -> None:
    outline = np.array([[10.25, 7.5], [40.75, 8], [30, 50.125]], np.float32)
    objects = pictures.Targets(np.array([0]), np.array([[10.25, 7.5, 40.75, 50.125]], np.float32), [outline], None)
    moved = pictures._moved(objects, np.array([[1.0, 0, 3], [0, 1, 4]]), SIDE, ())
    assert moved.boxes.tolist() == [[13.25, 11.5, 43.75, 54.125]]


def test_a_mask_is_stretched_over_its_box() -> None:
    from visionloop.training.pytorch.objects.measuring import mask_in_picture

    mask = np.zeros((28, 28), np.float32)
    mask[:, 14:] = 1
    region, left, top = mask_in_picture(mask, np.array([10, 5, 30, 25], np.float32), 100, 50)
    assert (left, top, region.shape) == (10, 5, (20, 20))
    assert not region[:, :10].any()
    assert region[1:-1, 10:-1].all()
    region, left, top = mask_in_picture(np.ones((28, 28), np.float32), np.array([-5, -5, 15, 15], np.float32), 10, 8)
    assert (left, top, region.shape) == (0, 0, (8, 10))
    assert region.all()
    assert mask_in_picture(mask, np.array([50, 5, 50, 25], np.float32), 40, 50)[0].size == 0


def test_what_is_measured_is_what_is_predicted() -> None:
    """Boxes and keypoints end at the picture's borders, not at those of the square, and masks lie over the whole box."""
    from visionloop.training.pytorch.objects.detector import Found
    from visionloop.training.pytorch.objects.measuring import _detections

    # A picture of 64 × 32 in a square of 64. A square object at the lower border is found too long, and one is found below it.
    boxes = np.array([[8, 16, 24, 40], [8, 40, 24, 60], [-4, -4, 8, 8]], np.float32)
    halves = np.zeros((3, 24, 24), np.float32)
    halves[:, :12] = 1
    points = np.array([[[10, 20, 0.5], [10, 40, 0.5]]] * 3, np.float32)
    result = Found(boxes, np.arange(3), np.ones(3, np.float32), halves, points)
    detections = _detections(result, (64, 32), 64)
    assert detections.classes.tolist() == [0, 2]
    assert detections.boxes.tolist() == [[8, 16, 24, 32], [0, 0, 8, 8]]
    assert detections.keypoints[0].tolist() == [[10, 20, 0.5], [10, 32, 0.5]]
    # Its upper half, of 24 rows: 12 of the picture's 16 in it.
    assert np.argwhere(detections.masks[0]).tolist() == [[row, column] for row in (4, 5, 6) for column in (2, 3, 4, 5)]
    whole = _detections(Found(boxes, result.classes, result.scores, np.ones_like(halves)), (64, 32), 64)
    assert np.flatnonzero(whole.masks[0].any(1)).tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("scale", [1, 2.5])
def test_a_mask_is_predicted_over_the_whole_box(scale: float) -> None:
    """Also where the box reaches out of the picture."""
    import torch

    from visionloop.training.pytorch.objects.detector import Detector, Found
    from visionloop.training.pytorch.objects.loaded import LoadedDetector

    class Given(Detector):
        def find(self, model: torch.nn.Module, inputs: torch.Tensor) -> list[Found]:
            halves = np.zeros((1, 24, 24), np.float32)
            halves[:, :12] = 1
            return [Found(np.array([[8, 16, 24, 40]], np.float32), np.zeros(1, int), np.ones(1, np.float32), halves)]

    about = Given(["x"], 64, "segmentation", 9)
    loaded = LoadedDetector(about, torch.nn.Identity(), {"device": "cpu"})
    (entry,) = loaded.see(np.zeros((int(32 * scale), int(64 * scale), 3), np.uint8), PredictionSettings(0.1))
    assert entry.box == pytest.approx([8 * scale, 16 * scale, 24 * scale, 32 * scale])
    assert max(entry.polygons[0][1::2]) == pytest.approx(28 * scale, abs=1)


# A model


@pytest.mark.parametrize("architecture", ["maskrcnn_tiny", "keypointrcnn_tiny"])
@pytest.mark.parametrize("most", [20, 250])
def test_there_are_as_many_detections_as_max_det_says(architecture: str, most: int) -> None:
    import torch

    from visionloop.training.trainers.torchvision.model import Description

    torch.manual_seed(0)
    about = Description(["x"], 128, "", most, architecture, POINTS, 1.0)
    with torch.no_grad():
        (result,) = about.find(about.build(0.0).eval(), torch.rand(1, 3, 128, 128))
    assert len(result.scores) == most


def test_masks_are_drawn_of_what_a_step_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a picture with a thousand objects no more than the library samples, and the loss is that of all masks."""
    import torch
    from torchvision.models.detection.roi_heads import RoIHeads  # type: ignore[import-untyped]

    from visionloop.training.trainers.torchvision.model import FEW, Description
    from visionloop.training.trainers.torchvision.targets import target

    random = np.random.default_rng(0)
    corners = random.uniform(0, 100, (1000, 2))
    boxes = np.concatenate([corners, corners + random.uniform(6, 25, (1000, 2))], axis=1).astype(np.float32)
    outlines = [np.array([[a, b], [c, b], [c, d], [a, (b + d) / 2]], np.float32) for a, b, c, d in boxes.tolist()]
    several = [
        pictures.Targets(np.zeros(len(rows), np.int64), boxes[rows], [outlines[row] for row in rows], None)
        for rows in (np.arange(1000), np.arange(0), np.arange(1))
    ]
    torch.manual_seed(0)
    about = Description(["x"], 128, "segmentation", 300, "maskrcnn_tiny", (), 0.7)
    model, inputs = about.build(0.1), list(torch.rand(3, 3, 128, 128))
    targets = [target(objects, "segmentation", 128, 1, torch.device("cpu")) for objects in several]
    numbers, draw = list[int](), pictures.drawn

    def counted(rows: list[Any], side: int) -> Any:
        numbers.append(len(rows))
        return draw(rows, side)

    monkeypatch.setattr(pictures, "drawn", counted)
    torch.manual_seed(1)
    ours = model(inputs, targets)
    assert numbers[1:] == [0, 1]
    assert 1 < numbers[0] <= FEW["box_batch_size_per_image"]
    model.roi_heads.__class__ = RoIHeads
    whole = [{**of, "masks": of["masks"](torch.arange(len(of["labels"])))} for of in targets]
    torch.manual_seed(1)
    theirs = model(inputs, whole)
    assert {name: value.item() for name, value in ours.items()} == {
        name: value.item() for name, value in theirs.items()
    }


def test_a_trained_model_answers_as_its_task_does(
    task: str, dataset: Path, trained: TrainingResult, tmp_path: Path
) -> None:
    measured = TRAINER.evaluate(trained.best, dataset, "test", configuration(task), tmp_path, lambda *_: None)
    assert set(TRAINER.metrics[task]) <= set(measured.metrics)
    assert measured.images == 3
    assert measured.files == sorted(f"images/test/{path.name}" for path in (dataset / "images/test").iterdir())
    predictor = TRAINER.predictor(trained.best)
    picture = np.asarray(Image.open(next((dataset / "images/test").iterdir())))
    everything = PredictionSettings(0.0, masks=True)
    for pixels in (picture, np.zeros((1, 1, 3), np.uint8), np.full((200, 30, 3), 90, np.uint8)):
        height, width = pixels.shape[:2]
        (result,) = predictor.predict([pixels], everything)
        assert [entry.confidence for entry in result] == sorted((entry.confidence for entry in result), reverse=True)
        for entry in result:
            assert entry.box is not None
            left, top, right, bottom = entry.box
            assert 0 <= left <= right <= width
            assert 0 <= top <= bottom <= height
            assert entry.class_index in (0, 1)
            assert set(entry.keypoints) == (set(POINTS) if task == "pose" else set())
            for x, y, confidence in entry.keypoints.values():
                assert 0 <= x <= width
                assert 0 <= y <= height
                assert 0 <= confidence <= 1
            assert (entry.mask is not None) <= (task == "segmentation")
            if entry.mask:
                assert masks.runs(entry.mask).sum() == width * height
    assert list(predictor.predict([picture], PredictionSettings(1.0))) == [[]]


def test_an_epoch_is_measured_as_an_evaluation_measures(
    task: str, dataset: Path, trained: TrainingResult, tmp_path: Path
) -> None:
    measured = TRAINER.evaluate(trained.best, dataset, "val", configuration(task), tmp_path, lambda *_: None)
    assert measured.metrics == trained.history[trained.best_epoch - 1]["val_metrics"]


def test_a_split_without_an_object_is_not_measured(
    task: str, dataset: Path, trained: TrainingResult, tmp_path: Path
) -> None:
    for path in sorted((dataset / "images" / "val").iterdir())[:1]:
        target = tmp_path / "d" / "images" / "test" / path.name
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes())
    measured = TRAINER.evaluate(trained.best, tmp_path / "d", "test", configuration(task), tmp_path, lambda *_: None)
    assert measured.metrics == {}
    assert "no labelled object" in measured.not_measured[TRAINER.metrics[task][0]]


def test_a_training_whose_val_has_no_label_keeps_the_last_epoch(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "detection")
    for file in (root / "labels/val").iterdir():
        file.write_text("")
    result = train("detection", root, tmp_path / "work", epochs=2)
    assert result.best_epoch == 2
    assert result.history[0]["val_metrics"] == {}


def test_a_champion_goes_on_by_the_names_of_its_classes(
    task: str, dataset: Path, trained: TrainingResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    points = ("nose",) if task == "pose" else ()
    more = {"keypoints": points, "classes": ("red", "green")}
    if task == "pose":
        for file in (dataset / "labels").rglob("*.txt"):
            new = tmp_path / "d" / file.relative_to(dataset)
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_text("".join(" ".join(line.split()[:8]) + "\n" for line in file.read_text().splitlines()))
            image = file.relative_to(dataset / "labels").with_suffix(".png")
            (tmp_path / "d" / "images" / image).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / "images" / image).write_bytes((dataset / "images" / image).read_bytes())
        dataset = tmp_path / "d"
    train(task, dataset, tmp_path / "work", trained.best, model="models:/x@champion", **more)
    assert "1 go on by their names; green is new, blue is dropped" in caplog.text
    assert ("find 2 keypoints and the dataset has 1" in caplog.text) == (task == "pose")


def test_weights_of_another_task_or_trainer_are_refused(
    task: str, dataset: Path, trained: TrainingResult, tmp_path: Path
) -> None:
    from visionloop.training.pytorch import models

    other = "pose" if task == "detection" else "detection"
    with pytest.raises(InvalidConfig, match=f"are for {task}, not for {other}"):
        train(other, dataset, tmp_path / "one", trained.best, model="models:/x@champion")
    of_transformers = {
        "family": "rt_detr",
        "configuration": {},
        "task": task,
        "max_det": 300,
        "classes": [],
        "imgsz": 64,
    }
    foreign = models.write({}, of_transformers, tmp_path / "x.safetensors")
    with pytest.raises(InvalidConfig, match="are of another trainer than torchvision"):
        train(task, dataset, tmp_path / "two", foreign, model="models:/x@champion")
    with pytest.raises(InvalidReceipt, match="can't be loaded"):
        TRAINER.predictor(foreign)


def test_published_weights_go_on_by_cocos_names(
    dataset: Path, task: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file as torchvision publishes it: of the models with boxes or masks 91 rows, of which some name no class, of that with keypoints two."""
    import torch

    from visionloop.training.trainers.torchvision.model import Description

    caplog.set_level(logging.INFO)
    rows = {"detection": 91, "segmentation": 90, "pose": 1}[task]  # and one for the background
    published = Description(["x"] * rows, SIDE, task, 300, MODELS[task], POINTS if task == "pose" else (), 0.7)
    # Its normalisations are frozen ones, which count no batches.
    tensors = {
        name: value for name, value in published.build(0.1).state_dict().items() if "num_batches_tracked" not in name
    }
    file = tmp_path / f"{MODELS[task]}_coco-0.pth"
    torch.save(tensors, file)
    train(task, dataset, tmp_path / "work", file, model=MODELS[task], classes=("Person", "thing"))
    assert "1 go on by their names; thing is new" in caplog.text
    assert "begin anew" not in caplog.text
