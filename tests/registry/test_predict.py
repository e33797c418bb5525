"""``visionloop predict``: which images it takes, what it prints and draws, and what it tells and refuses."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decided import register
from PIL import Image
from toy_detector import SIZE, Prepared
from untrained import PAIRS, photograph
from untrained import register as register_untrained

from visionloop.components.predict import images as sources
from visionloop.core.errors import VisionloopError
from visionloop.core.storage import open_prefix
from visionloop.pipelines.cli.main import application
from visionloop.registry import Registry

BOX = [10.0, 20.0, 30.0, 44.0]


def scene(path: Path, **more: Any) -> Path:
    """A picture on which the toy finds one bright object, at ``BOX``."""
    pixels = np.zeros((SIZE, 2 * SIZE), np.uint8)
    pixels[20:44, 10:30] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **more)
    return path


@pytest.fixture
def model(prepared: Prepared, registry: Registry, name: str) -> str:
    """A registered toy detector."""
    register(prepared, name, 0)
    return name


def predict(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str, str]:
    """Exit code, what stdout holds (JSON unless it is text), stderr and the sentence of ``visionloop predict``."""
    error: VisionloopError | None = None
    try:
        application(["predict"])(["predict", *map(str, words)], standalone_mode=False)
    except VisionloopError as raised:
        error = raised
    out, err = capfd.readouterr()
    code, sentence = (0, "") if error is None else (error.exit_code, error.sentence)
    return code, json.loads(out) if out.startswith("{") else out, err, sentence


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a folder ``photos`` in it, where the command is called."""
    monkeypatch.chdir(tmp_path)
    for key in ("b.png", "inner/a.bmp"):
        scene(tmp_path / "photos" / key)
    (tmp_path / "photos/notes.txt").write_text("no picture")
    return Path("photos")


def test_objects_are_printed_in_pixels_of_each_image(
    model: str, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, printed, err, _ = predict(capfd, f"{model}@champion", photos)
    assert code == 0
    assert [entry["image"] for entry in printed["predictions"]] == ["photos/b.png", "photos/inner/a.bmp"]
    for entry in printed["predictions"]:
        assert (entry["width"], entry["height"]) == (2 * SIZE, SIZE)
        assert entry["predictions"] == [{"class": "bright", "class_index": 1, "confidence": 0.9, "box": BOX}]
    assert f"{model}/1 predicts on 2 images." in err
    code, text, *_ = predict(capfd, f"models:/{model}/1", photos, "--output", "text")
    assert text.splitlines()[0].split() == ["IMAGE", "CLASS", "CONFIDENCE", "BOX"]
    assert text.splitlines()[1].split(maxsplit=3) == ["photos/b.png", "bright", "0.90", "10, 20, 30, 44"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["photos/*.png"], ["photos/b.png"]),
        (["photos/**/*"], ["photos/b.png", "photos/inner/a.bmp"]),
        (["photos/inner", "photos"], ["photos/inner/a.bmp", "photos/b.png"]),
        (["photos/b.png", "photos/b.png"], ["photos/b.png"]),
        (["photos/[1].png"], ["photos/[1].png"]),
        (["photos/other.dat"], ["photos/other.dat"]),
    ],
)
def test_files_folders_and_patterns_name_images(photos: Path, words: list[str], found: list[str]) -> None:
    for named in found:
        if not Path(named).exists():
            scene(photos / "new.png").rename(named)
    told: list[str] = []
    assert [picture.name for picture in sources.named(words, told.append)] == found
    assert told == []


@pytest.mark.usefixtures("photos")
def test_a_uri_of_a_file_names_it(tmp_path: Path) -> None:
    strange = scene(tmp_path / "a b%20ü.png")
    (picture,) = sources.named([strange.as_uri()], pytest.fail)
    assert picture.read() == strange.read_bytes()


def test_a_prefix_of_a_store_names_its_images(
    s3_workspace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY"):
        monkeypatch.setenv(f"EXTERNAL_S3_{name}", os.environ[f"INTERNAL_S3_{name}"])
    data = scene(tmp_path / "a.png").read_bytes()
    store = open_prefix(s3_workspace, "results")
    for key in ("photos/b.png", "photos/in/a.PNG", "photos/notes.txt", "single"):
        store.write(key, data)
    told: list[str] = []
    words = [f"{s3_workspace}/photos/", f"{s3_workspace}/single", f"{s3_workspace}/nothing"]
    pictures = sources.named(words, told.append)
    assert [picture.name for picture in pictures] == [
        f"{s3_workspace}/photos/b.png",
        f"{s3_workspace}/photos/in/a.PNG",
        f"{s3_workspace}/single",
    ]
    assert {picture.read() for picture in pictures} == {data}
    assert [sentence.partition(": ")[0] for sentence in told] == [f"{s3_workspace}/nothing"]


def test_what_is_wrong_is_told_and_the_rest_goes_on(
    model: str, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "cut.png").write_bytes(scene(photos / "whole.png").read_bytes()[:-60])
    (photos / "page.jpg").write_text("<html>")
    os.mkfifo(photos / "pipe.png")
    (photos / "empty").mkdir()
    words = [
        "missing.png",
        "photos",
        "photos/empty",
        "none/*.png",
        "https://example.com/a.png",
        "a\x1b[2J\n.png",
        "\udcff",
    ]
    code, printed, err, sentence = predict(capfd, f"{model}@champion", *words)
    assert code == 65
    assert sentence.startswith("9 of what was named could not be predicted on")
    assert [entry["image"] for entry in printed["predictions"]] == [
        "photos/b.png",
        "photos/inner/a.bmp",
        "photos/whole.png",
    ]
    for told in (
        "missing.png: there is no such file or folder",
        "photos/cut.png: a picture that is damaged",
        "photos/page.jpg: not a PNG",
        "photos/pipe.png: a pipe",
        "photos/empty: no image lies there",
        "none/*.png: no image has a name like that",
        "https:// is not supported",
        "control characters",
        "is not UTF-8",
    ):
        assert told in err
    assert "\x1b" not in err


@pytest.mark.usefixtures("photos")
def test_where_nothing_is_found_no_model_is_loaded(
    model: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visionloop.registry.loaded.loaded", pytest.fail)
    code, printed, err, _ = predict(capfd, f"{model}@champion", "nowhere")
    assert (code, printed) == (65, {"predictions": []})
    assert "nowhere: there is no such file or folder" in err
    assert predict(capfd, f"{model}@champion", "nowhere", "--output", "text")[1] == "No image.\n"


def test_a_picture_counts_as_it_is_shown(model: str, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(photos / "turned.png", exif=exif)
    (entry,) = predict(capfd, f"{model}@champion", photos / "turned.png")[1]["predictions"]
    assert (entry["width"], entry["height"]) == (SIZE, 2 * SIZE)
    assert entry["predictions"][0]["box"] == [SIZE - 44.0, 10.0, SIZE - 20.0, 30.0]


def test_pictures_are_drawn_under_names_that_stay_in_the_folder(
    model: str, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("..png", "-rf.png", "a b\u202ec$(x).png", "x" * 200 + ".png", "B.PNG"):
        scene(photos / "new.png").rename(photos / name)
    code, *_ = predict(capfd, f"{model}@champion", photos, "--save", "drawn")
    assert code == 0
    names = {path.name for path in Path("drawn").iterdir()}
    assert names == {"B.jpg", "b-2.jpg", "a.jpg", "image.jpg", "rf.jpg", "a_b_c_x.jpg", "x" * 50 + ".jpg"}
    with Image.open("drawn/a.jpg") as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    assert drawn.size == (320, 160)
    coloured = np.argwhere(np.ptp(pixels, axis=2) > 80)
    scale = 320 / (2 * SIZE)
    assert abs(coloured[:, 1].min() - scale * BOX[0]) < 3
    assert abs(coloured[:, 0].max() - scale * BOX[3]) < 3


def test_a_folder_that_holds_files_is_left_alone(model: str, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _, sentence = predict(capfd, f"{model}@champion", photos, "--save", photos)
    assert (code, out) == (78, "")
    assert sentence == "--save photos: the folder holds files already; name a new or an empty one."
    code, _, _, sentence = predict(capfd, f"{model}@champion", photos, "--save", photos / "b.png")
    assert (code, "this is a file" in sentence) == (78, True)


def test_what_does_not_exist_is_named_with_what_does(
    model: str, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for wanted, part in (
        (f"{model}/7", f"there is {model}/1"),
        (f"{model}@nightly", f"there is {model}@champion"),
        (model, "give NAME/VERSION or NAME@ALIAS"),
        (f"not-{model}@champion", "no such model is registered"),
    ):
        code, out, _, sentence = predict(capfd, wanted, photos)
        assert (code, out, part in sentence) == (78, "", True), sentence


@pytest.mark.parametrize("confidence", ["-0.1", "1.5", "nan"])
def test_a_confidence_is_from_0_to_1(
    model: str, photos: Path, confidence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _, sentence = predict(capfd, f"{model}@champion", photos, "--confidence", confidence)
    assert (code, out, "give a number from 0 to 1" in sentence) == (78, "", True)


def test_a_confidence_leaves_objects_out(model: str, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, printed, *_ = predict(capfd, f"{model}@champion", photos / "b.png", "--confidence", "0.95")
    assert [entry["predictions"] for entry in printed["predictions"]] == [[]]


def test_tiles_of_a_large_photograph(model: str, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, printed, *_ = predict(capfd, f"{model}@champion", photos / "b.png", "--tile", 96)
    assert [[found["box"] for found in entry["predictions"]] for entry in printed["predictions"]] == [[BOX]]
    code, _, _, sentence = predict(capfd, f"{model}@champion", photos / "b.png", "--tile", 12)
    assert (code, "--tile 12: give the side of a tile" in sentence) == (78, True)


def test_a_file_that_is_too_large_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    (picture,) = sources.named([str(scene(tmp_path / "a.png"))], pytest.fail)
    with pytest.raises(VisionloopError, match="bytes are more than the 10 of an image"):
        picture.read()


#: The pairs that `make test` and `make ci` look at; the others are the matrix's.
LOOKED_AT: dict[tuple[str, str], list[pytest.MarkDecorator]] = {
    ("torchvision", "pose"): [],
    ("ultralytics", "detection"): [pytest.mark.slow],
    ("timm", "classification"): [pytest.mark.slow],
}


@pytest.mark.parametrize(
    ("trainer", "task"),
    [pytest.param(*pair, marks=LOOKED_AT.get(pair, [pytest.mark.matrix])) for pair in PAIRS],
)
def test_each_trainer_predicts_on_the_smallest_and_on_large_pictures(
    registry: Registry, name: str, trainer: str, task: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    register_untrained(registry, trainer, task, name, tmp_path)
    photos = tmp_path / "photos"
    photograph(photos / "a.png", 1, 1)
    photograph(photos / "b.png", 640, 480)
    # Of one colour: 100 megapixels in a few kilobytes.
    Image.new("RGB", (12_500, 8_000), (90, 120, 30)).save(photos / "c.png", compress_level=1)
    options = () if task == "classification" else ("--confidence", "0.001")
    code, printed, _, sentence = predict(capfd, f"{name}@champion", photos, *options, "--save", tmp_path / "drawn")
    assert code == 0, sentence
    sizes = [(entry["width"], entry["height"]) for entry in printed["predictions"]]
    assert sizes == [(1, 1), (640, 480), (12_500, 8_000)]
    assert any(entry["predictions"] for entry in printed["predictions"])
    keys = {key for entry in printed["predictions"] for found in entry["predictions"] for key in found}
    assert (
        keys - {"class", "class_index", "confidence", "polygons", "holes"}
        == {
            "detection": {"box"},
            "segmentation": {"box"},
            "pose": {"box", "keypoints"},
            "classification": set(),
        }[task]
    )
    for path in (tmp_path / "drawn").iterdir():
        assert max(Image.open(io.BytesIO(path.read_bytes())).size) in (320, 640, 1280)


def test_a_classifier_takes_no_confidence(
    registry: Registry, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    register_untrained(registry, "timm", "classification", name, tmp_path)
    code, out, _, sentence = predict(capfd, f"{name}@champion", tmp_path, "--confidence", "0.5")
    assert (code, out) == (78, "")
    assert "whatever their confidence" in sentence
