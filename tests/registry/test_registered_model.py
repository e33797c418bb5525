"""What a registered model takes, behind a server and in Python, and that it needs no installed Visionloop."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from laptop import THIRD_PARTY
from PIL import Image

from visionloop.core import catalog as installed
from visionloop.core.errors import InvalidConfig, Killed
from visionloop.data.decoding import decode
from visionloop.registry import archive, fresh, package
from visionloop.registry.inputs import InvalidImage, encoded_images

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))
from imports import below, closure, tree

pytestmark = pytest.mark.slow

RGB = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
GREY = RGB[..., 0]


def encoded(pixels: Any, kind: str = "PNG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **more)
    return buffer.getvalue()


PNG = encoded(RGB)
TEXT = base64.b64encode(PNG).decode()


def pixels(model_input: Any, *, served: bool = False) -> list[Any]:
    return [decode(data).tolist() for data in encoded_images(model_input, served=served)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "scene.png"
    path.write_bytes(PNG)
    return path


FORMS = {
    "bytes": PNG,
    "bytearray": bytearray(PNG),
    "base64": TEXT,
    "base64 in lines": "\n".join(TEXT[start : start + 76] for start in range(0, len(TEXT), 76)),
    "data URL": f"data:image/png;base64,{TEXT}",
    "PIL": Image.fromarray(RGB),
    "array": RGB,
    "array with alpha": np.dstack([RGB, GREY]),
    "array of integers": RGB.astype(int),
    "16 bits": RGB.astype(np.uint16) << 8,
    "tuple": (PNG,),
    "batch of one": RGB[None],
    "table": pd.DataFrame({"image": [PNG], "name": ["a"]}),
    "mapping": {"image": [TEXT]},
    "array of text": np.array([TEXT]),
    "array of objects": np.array([PNG], dtype=object),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_picture(form: str) -> None:
    assert pixels(FORMS[form]) == [RGB.tolist()]


def test_a_path_and_its_text_give_the_picture_too(file: Path) -> None:
    assert pixels(file) == pixels(str(file)) == pixels([file, str(file)])[:1] == [RGB.tolist()]


def test_a_batch_is_as_many_pictures() -> None:
    batch = np.stack([RGB, 255 - RGB])
    assert pixels(batch) == pixels([RGB, 255 - RGB]) == batch.tolist()


@pytest.mark.parametrize("grey", [GREY, GREY[..., None], Image.fromarray(GREY), GREY.astype(np.uint16) << 8])
def test_grey_pictures_are_taken(grey: Any) -> None:
    assert pixels(grey) == [np.stack([GREY] * 3, axis=-1).tolist()]


def test_a_pil_image_is_turned_as_it_is_shown() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(RGB, exif=exif)
    assert pixels(Image.open(io.BytesIO(data))) == pixels(data) == [np.rot90(RGB, -1).tolist()]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_a_pil_image_and_its_file_are_one_picture(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(RGB, kind, exif=exif, lossless=True)
    assert pixels(Image.open(io.BytesIO(data))) == pixels(data)


def test_base64_that_is_longer_than_a_files_name_is_base64() -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    text = next(
        text
        for seed in range(99)
        for text in [
            base64.b64encode(encoded(np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8))).decode()
        ]
        if max(map(len, text.split("/"))) > 255
    )
    assert len(pixels(text)) == len(pixels(base64.b64encode(encoded(picture)).decode())) == 1


def test_an_orientation_in_xmp_alone_turns_neither_file_nor_pil_image() -> None:
    data = encoded(RGB)
    text = b"XML:com.adobe.xmp\0\0\0\0\0<rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation=\"6\"/>"
    chunk = struct.pack(">I", len(text)) + b"iTXt" + text + struct.pack(">I", zlib.crc32(b"iTXt" + text))
    data = data[:33] + chunk + data[33:]
    assert pixels(Image.open(io.BytesIO(data))) == pixels(data) == [RGB.tolist()]


def test_a_pil_image_that_is_cut_off_is_named() -> None:
    with pytest.raises(InvalidImage, match="Image 1 of 1 is a PIL image that can't be decoded"):
        pixels(Image.open(io.BytesIO(PNG[:-80])))


REFUSED = {
    "None": (None, "Image 1 of 1 is of the type NoneType; give a path"),
    "number": ([PNG, 7], "Image 2 of 2 is of the type int"),
    "other bytes": (b"GIF89a", "Image 1 of 1 is not a PNG"),
    "cut off": (PNG[:-80], "Image 1 of 1 is a picture that is damaged"),
    "text": ("no such file.png", "neither names a file nor is base64 ('no such file.png')"),
    "NUL": ("a\0b", "neither names a file"),
    "longer than a name": ("a-" * 200, "neither names a file"),
    "longer than a path": ("a-/" * 4000, "neither names a file"),
    "floats": (RGB / 255, "an array of float64 from 0 to 0.99"),
    "large numbers": (RGB.astype(int) * 300, "give whole numbers from 0 to 255"),
    "shape": (np.zeros((3, 20, 30), np.uint8), "an array of 3 × 20 × 30"),
    "five dimensions": (np.zeros((1, 1, 20, 30, 3), np.uint8), "an array of 1 × 1 × 20 × 30 × 3"),
    "empty array": (np.zeros((0, 30, 3), np.uint8), "an array of 0 × 30 × 3"),
    "table": (pd.DataFrame({"picture": [PNG]}), "The table has the columns picture; name the one of images image"),
    "mapping": ({"picture": PNG}, "columns picture"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_anything_else_is_refused_by_name(form: str) -> None:
    value, sentence = REFUSED[form]
    with pytest.raises(InvalidImage) as caught:
        encoded_images(value, served=False)
    assert sentence in str(caught.value)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match=r"missing\.png can't be read \(No such file or directory\)"):
        encoded_images(tmp_path / "missing.png", served=False)


def test_behind_a_server_a_text_never_names_a_file(file: Path) -> None:
    assert pixels([TEXT], served=True) == [RGB.tolist()]
    for text in (str(file), file.as_uri(), "s3://bucket/image.png"):
        with pytest.raises(InvalidImage, match="not base64; a served model takes base64 alone"):
            encoded_images([text], served=True)
    # A file whose name is base64.
    with pytest.raises(InvalidImage, match="not a PNG"):
        encoded_images(["abcd"], served=True)


# The package


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model of the third-party trainer, whose distribution is on the path."""
    folder = tmp_path_factory.mktemp("model")
    checkpoint = folder / "best.pt"
    checkpoint.write_text(json.dumps({"classes": ["dark", "bright"], "weights": np.zeros((64, 2)).tolist()}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(THIRD_PARTY))
        installed.load.cache_clear()
        trainer = installed.load("visionloop.trainers", "toy")
        description = package.Description(
            trainer="toy",
            task="detection",
            classes=["dark", "bright"],
            training_digest="0" * 64,
            checkpoint="artifacts/best.pt",
            checkpoint_sha256="0" * 64,
            config={},
        )
        package.build(folder / "model", checkpoint, trainer, description)
        yield folder / "model"
    installed.load.cache_clear()


def test_signature_and_example_are_those_of_images(model: Path) -> None:
    from mlflow.models import Model

    read = Model.load(str(model))
    signature = read.signature
    assert signature.inputs is None  # or MLflow refuses PIL images and arrays
    assert [spec.name for spec in signature.params.params] == ["confidence"]
    assert set(signature.outputs.to_dict()[0]["items"]["properties"]) == {"class", "class_index", "confidence", "box"}
    (example,) = json.loads((model / "input_example.json").read_text())
    assert base64.b64decode(example) == package.example_image()


def test_the_archive_is_the_same_each_time(model: Path, tmp_path: Path) -> None:
    archive.write(tmp_path / "again.zip", "example.trainer:TRAINER")
    assert (tmp_path / "again.zip").read_bytes() == (model / "artifacts" / package.ARCHIVE).read_bytes()


def test_no_unpublished_package_is_required(model: Path) -> None:
    required = (model / "requirements.txt").read_text().splitlines()
    assert not [line for line in required if line.startswith("visionloop")]
    assert {line.partition("==")[0] for line in required} >= set(archive.REQUIREMENTS)


LOADED_ALONE = """
import sys
sys.path[:] = [path for path in sys.path if path.rstrip("/") != sys.argv[1]]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[2])
import visionloop
assert ".zip" in visionloop.__file__, visionloop.__file__
print([found["class"] for found in model.predict([sys.argv[3]], params={"confidence": 0.0})[0]])
"""


def test_it_loads_where_visionloop_is_not_installed(model: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(THIRD_PARTY), "MLFLOW_DISABLE_TELEMETRY": "true"}
    root = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED_ALONE, root, str(model), TEXT],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout.strip() == "['dark']", ended.stderr[-2000:]


@pytest.mark.parametrize("name", ["timm", pytest.param("torchvision", marks=pytest.mark.matrix)])
def test_a_model_of_our_own_loop_loads_there_too(name: str, tmp_path: Path) -> None:
    from visionloop.training.pytorch import models

    about: Any
    if name == "timm":
        from visionloop.training.trainers.timm.model import Description

        about = Description.of("test_resnet", ["dark"], 32)
        built = about.build()
    else:
        from visionloop.training.trainers.torchvision.model import Description as Detection

        about = Detection(["dark"], 64, "detection", 300, "fcos_tiny", [], 0.7)
        built = about.build(0.001)
    checkpoint = models.write(built.state_dict(), about.as_json(), tmp_path / "best.safetensors")
    description = package.Description(
        trainer=name,
        task="classification" if name == "timm" else "detection",
        classes=["dark"],
        training_digest="0" * 64,
        checkpoint="artifacts/best.safetensors",
        checkpoint_sha256="0" * 64,
        config={},
    )
    package.build(tmp_path / "model", checkpoint, installed.load("visionloop.trainers", name), description)
    script = LOADED_ALONE if name != "timm" else LOADED_ALONE.replace(', params={"confidence": 0.0}', "")
    root = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, root, str(tmp_path / "model"), TEXT],
        cwd=tmp_path, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert set(json.loads(ended.stdout.replace("'", '"'))) <= {"dark"}


# The fresh process


def test_a_fresh_process_loads_it_with_its_requirements_alone(model: Path, tmp_path: Path) -> None:
    fresh.check_loads(model, "toy", tmp_path)


@pytest.mark.parametrize("missing", ["mlflow", "visionloop"])
def test_what_does_not_load_so_is_refused(missing: str, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    if missing == "visionloop":
        with zipfile.ZipFile(folder / "artifacts" / package.ARCHIVE, "w"):
            pass
    else:
        (folder / "requirements.txt").write_text("numpy\npandas\n")
    with pytest.raises(InvalidConfig) as caught:
        fresh.check_loads(folder, "toy", tmp_path)
    assert caught.value.sentence.startswith("The trainer toy: a fresh process with its requirements alone can't load")
    assert f"No module named '{missing}'" in caught.value.sentence


def test_a_process_that_is_killed_is_no_fault_of_the_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program.py"
    program.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(fresh, "PROGRAM", program)
    with pytest.raises(Killed, match="which SIGKILL ended; give register more memory"):
        fresh.check_loads(model, "toy", tmp_path)


def test_no_variable_with_a_secret_reaches_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "VISIONLOOP_EVENTS_SECRET"):
        monkeypatch.setenv(name, "hidden")
    assert "hidden" not in fresh.variables(tmp_path).values()


def test_what_requirements_bring_are_their_own_requirements_too() -> None:
    brought = fresh.closure(["pandas==3"])
    assert {"pandas", "numpy", "python-dateutil", "six"} <= brought
    assert not {"torch", "pytest"} & brought
    assert "yaml" in fresh.modules_of(fresh.closure(["pyyaml"]))


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_it_loads_in_a_new_environment_that_holds_its_requirements_alone(model: Path, tmp_path: Path) -> None:
    """Installs them from the index that this machine is set up with."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = tmp_path / "environment" / "bin" / "python"
    uv = str(Path(sys.executable).with_name("uv"))
    for command in (
        ["venv", "--quiet", "--python", sys.executable, str(tmp_path / "environment")],
        ["pip", "install", "--quiet", "--python", str(python), "-r", str(model / "requirements.txt")],
    ):
        made = subprocess.run([uv, *command], env=environment, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr[-2000:]
    script = "import sys, mlflow.pyfunc as m; print(m.load_model(sys.argv[1]).predict([sys.argv[2]]))"
    ended = subprocess.run(
        [str(python), "-W", "ignore", "-c", script, str(model), TEXT],
        cwd=tmp_path, env={**environment, "MLFLOW_DISABLE_TELEMETRY": "true"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.startswith("[["), ended.stdout


READERS = ("visionloop.data.formats", "visionloop.data.annotations.tables")


def test_what_the_archive_imports_is_in_it_or_required() -> None:
    """The modules that loading and predicting need, with each trainer."""
    start = [
        "visionloop.registry",
        "visionloop.registry.inputs",
        "visionloop.registry.outputs",
        "visionloop.training.catalog",
        *below("visionloop.training.trainers"),
    ]
    needed = closure(start, lambda module: True)
    assert {module.split(".")[1] for module in needed if module != "visionloop"} <= set(archive.ROOMS)
    required = {"cv2", "PIL", "yaml", "msgspec", "numpy", "obstore", "psutil", "rfc8785", "typing_extensions"}
    for module in needed:
        for node in tree(module).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            outside = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"visionloop"}
            # Formats are imported where a dataset is read, which a model never does.
            # What trainers with torch share is loaded by these alone, which name it.
            if not module.startswith(("visionloop.training.trainers.", "visionloop.training.pytorch.", *READERS)):
                assert outside <= required, (module, outside)


# Behind MLflow's server


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``mlflow models serve`` with the model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = ["-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local", "-p", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(THIRD_PARTY), "MLFLOW_DISABLE_TELEMETRY": "true"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, *command, "--workers", "1"],
            stdout=output, stderr=output, env=environment | {"PATH": path}, start_new_session=True,
        )  # fmt: skip
    try:
        while True:
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                continue
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def ask(address: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_served_model_answers_its_example_and_opens_no_path(address: str, model: Path, file: Path) -> None:
    example = json.loads((model / "serving_input_example.json").read_text())
    status, answer = ask(address, {**example, "params": {"confidence": 0.0}})
    assert status == 200
    assert answer["predictions"][0][0]["box"] == [0.0, 0.0, 64.0, 64.0]
    table = {"dataframe_split": {"columns": ["image"], "data": [[TEXT], [TEXT]]}}
    status, answer = ask(address, table)
    assert (status, len(answer["predictions"])) == (200, 2)
    for text in (str(file), file.as_uri(), "/etc/hostname"):
        for body in ({"inputs": [text]}, {"dataframe_split": {"columns": ["image"], "data": [[text]]}}):
            status, answer = ask(address, body)
            assert status == 400
            assert "takes base64 alone" in answer
