from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionloop.components.train.loaded import fetch_weights
from visionloop.core.errors import AccessDenied, InvalidConfig, NotFound, Transient
from visionloop.core.storage import Prefix
from visionloop.training.trainers import Trainer
from visionloop.training.weights import LARGEST_WEIGHTS, Weights, find, locate, materialise, reference_kind

Reader = Callable[[str, Path], object]
BYTES = b"weights"
DIGEST = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment whose image holds no weights."""
    return {"VISIONLOOP_IMAGE_WEIGHTS": str(tmp_path / "image")}


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("yolo11n", "name"),
        ("yolo11n.yaml", "architecture"),
        ("resnet50.a1_in1k", "name"),
        ("yolo11n.pt", "path"),
        ("./yolo11n", "path"),
        ("/models/best.pt", "path"),
        ("s3://bucket/best.pt", "uri"),
        ("file:///models/best.pt", "uri"),
        ("models:/digits@champion", "registered"),
        ("models:/digits/3", "registered"),
    ],
)
def test_reference_kind(model: str, kind: str) -> None:
    assert reference_kind(model) == kind


def test_a_yaml_name_starts_from_scratch(toy: Trainer, reader: Reader, tmp_path: Path) -> None:
    weights = locate("yolo11n.yaml", toy, {}, reader, tmp_path)
    assert weights == Weights("architecture", "yolo11n.yaml")
    assert weights.identity == "yolo11n.yaml"
    assert materialise(weights, reader, tmp_path) is None


@pytest.mark.parametrize("model", ["yolo99n.yaml", "/models/own.yml", "s3://bucket/own.yaml"])
def test_an_unknown_architecture_is_refused(toy: Trainer, reader: Reader, tmp_path: Path, model: str) -> None:
    with pytest.raises(InvalidConfig, match="not an architecture that the trainer toy brings"):
        locate(model, toy, {}, reader, tmp_path)


def test_a_file_by_path_and_by_uri_has_one_identity(
    toy: Trainer, reader: Reader, objects: dict[str, bytes], tmp_path: Path
) -> None:
    file = tmp_path / "my best.pt"
    file.write_bytes(BYTES)
    objects["s3://bucket/models/best.pt"] = BYTES
    for model in (str(file), file.as_uri(), "s3://bucket/models/best.pt"):
        weights = locate(model, toy, {}, reader, tmp_path)
        assert weights == Weights("file", model, DIGEST)
        assert weights.identity == f"sha256:{DIGEST}"


@pytest.mark.parametrize("model", ["/nowhere/best.pt", "file:///nowhere/best.pt", "s3://bucket/none.pt", "/tmp"])
def test_a_missing_file_is_named(toy: Trainer, reader: Reader, tmp_path: Path, model: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        locate(model, toy, {}, reader, tmp_path)
    assert f"model names the weights {model}, where no file is" in str(caught.value)


def test_an_empty_file_is_refused(toy: Trainer, reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "best.pt").touch()
    with pytest.raises(InvalidConfig, match="are an empty file"):
        locate(str(tmp_path / "best.pt"), toy, {}, reader, tmp_path)


def test_an_address_of_another_kind_is_refused_without_its_signature(
    toy: Trainer, reader: Reader, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        locate("https://user:word@example.org/best.pt?X-Amz-Signature=abc", toy, {}, reader, tmp_path)
    assert "https://example.org…" in str(caught.value)
    assert "abc" not in str(caught.value)
    assert "word" not in str(caught.value)


def test_the_store_s_refusal_passes_through(toy: Trainer, tmp_path: Path) -> None:
    def refuse(uri: str, _local: Path) -> object:
        raise AccessDenied(f"{uri} may not be read")

    with pytest.raises(AccessDenied):
        locate("s3://bucket/best.pt", toy, {}, refuse, tmp_path)
    with pytest.raises(AccessDenied):
        locate("yolo11n", toy, {"VISIONLOOP_WEIGHTS": "s3://bucket/weights"}, refuse, tmp_path)


def test_a_registered_model_is_resolved_to_its_checkpoint(
    toy: Trainer, reader: Reader, objects: dict[str, bytes], tmp_path: Path
) -> None:
    objects["s3://bucket/models/digits/3/best.pt"] = BYTES

    def resolve_model(uri: str) -> str:
        if uri != "models:/digits@champion":
            raise NotFound(uri)
        return "s3://bucket/models/digits/3/best.pt"

    weights = locate("models:/digits@champion", toy, {}, reader, tmp_path, resolve_model)
    assert weights == Weights("file", "s3://bucket/models/digits/3/best.pt", DIGEST)
    with pytest.raises(InvalidConfig, match="models:/digits@retired is not registered"):
        locate("models:/digits@retired", toy, {}, reader, tmp_path, resolve_model)
    with pytest.raises(InvalidConfig, match="set MLFLOW_TRACKING_URI"):
        locate("models:/digits@champion", toy, {}, reader, tmp_path)
    objects.clear()
    with pytest.raises(
        InvalidConfig, match="model models:/digits@champion names the weights s3://bucket/models/digits/3"
    ):
        locate("models:/digits@champion", toy, {}, reader, tmp_path, resolve_model)


def test_a_bare_name_is_looked_up_in_order(
    downloading: Trainer, reader: Reader, objects: dict[str, bytes], tmp_path: Path
) -> None:
    image = tmp_path / "image"
    image.mkdir()
    environment = {
        "VISIONLOOP_WEIGHTS": "s3://bucket/weights/",
        "VISIONLOOP_IMAGE_WEIGHTS": str(image),
        "VISIONLOOP_ALLOW_DOWNLOAD": "1",
    }
    fetched = locate("yolo11n", downloading, environment, reader, tmp_path)
    assert Path(fetched.uri).read_bytes() == b"fetched"
    assert fetched.sha256 == hashlib.sha256(b"fetched").hexdigest()
    (image / "yolo11n.pth").write_bytes(b"of the image")
    assert locate("yolo11n", downloading, environment, reader, tmp_path).uri == str(image / "yolo11n.pth")
    objects["s3://bucket/weights/yolo11n.pt"] = BYTES
    assert locate("yolo11n", downloading, environment, reader, tmp_path) == Weights(
        "file", "s3://bucket/weights/yolo11n.pt", DIGEST
    )
    assert locate("yolo11n.pt", downloading, environment, reader, tmp_path).sha256 == DIGEST


def test_a_folder_may_be_the_weights_store(
    toy: Trainer, reader: Reader, tmp_path: Path, nowhere: dict[str, str]
) -> None:
    (tmp_path / "yolo11n.pt").write_bytes(BYTES)
    for prefix in (str(tmp_path), f"{tmp_path}/", tmp_path.as_uri()):
        assert locate("yolo11n", toy, {**nowhere, "VISIONLOOP_WEIGHTS": prefix}, reader, tmp_path).sha256 == DIGEST


def test_not_found_names_the_places(toy: Trainer, reader: Reader, tmp_path: Path, nowhere: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig) as caught:
        locate("yolo11n", toy, nowhere, reader, tmp_path)
    for part in (
        "VISIONLOOP_WEIGHTS (not set)",
        f"{tmp_path}/image/yolo11n.pt (the image)",
        "VISIONLOOP_ALLOW_DOWNLOAD=1",
    ):
        assert part in str(caught.value)
    with pytest.raises(InvalidConfig, match=r"s3://bucket/yolo11n\.pt \(VISIONLOOP_WEIGHTS\)"):
        locate("yolo11n", toy, {**nowhere, "VISIONLOOP_WEIGHTS": "s3://bucket"}, reader, tmp_path)


def test_no_download_unless_allowed(
    downloading: Trainer, reader: Reader, tmp_path: Path, nowhere: dict[str, str]
) -> None:
    for value in ({}, {"VISIONLOOP_ALLOW_DOWNLOAD": "0"}):
        with pytest.raises(InvalidConfig, match="VISIONLOOP_ALLOW_DOWNLOAD=1 only"):
            locate("yolo11n", downloading, {**nowhere, **value}, reader, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_finds_nothing(
    toy: Trainer, downloading: Trainer, reader: Reader, tmp_path: Path, nowhere: dict[str, str]
) -> None:
    environment = {**nowhere, "VISIONLOOP_ALLOW_DOWNLOAD": "1"}
    with pytest.raises(InvalidConfig, match="the trainer toy has none"):
        locate("yolo11n", toy, environment, reader, tmp_path)
    with pytest.raises(InvalidConfig, match="no weights of that name"):
        locate("yolo99x", downloading, environment, reader, tmp_path)


def test_materialise_writes_what_was_located(
    toy: Trainer, reader: Reader, objects: dict[str, bytes], tmp_path: Path
) -> None:
    objects["s3://bucket/a/best.pt"] = BYTES
    weights = locate("s3://bucket/a/best.pt", toy, {}, reader, tmp_path)
    written = materialise(weights, reader, tmp_path)
    assert written == tmp_path / "best.pt"
    assert written.read_bytes() == BYTES
    objects["s3://bucket/a/best.pt"] = b"other"
    with pytest.raises(Transient, match="changed while"):
        materialise(weights, reader, tmp_path)
    objects.clear()
    with pytest.raises(InvalidConfig, match="are gone"):
        materialise(weights, reader, tmp_path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    model=st.text(min_size=1)
    | st.builds(lambda a, b: a + b, st.sampled_from(["s3://", "http://[", "models:/"]), st.text())
)
def test_any_model_is_found_or_refused(
    toy: Trainer, reader: Reader, tmp_path: Path, nowhere: dict[str, str], model: str
) -> None:
    with pytest.raises(InvalidConfig):
        locate(f"absent-{model}" if reference_kind(model) == "path" else model, toy, nowhere, reader, tmp_path)


def test_a_pipe_or_a_device_is_refused_before_it_is_read(toy: Trainer, reader: Reader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.pt")
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    for model in ("/dev/zero", "file:///dev/zero", str(tmp_path / "best.pt"), str(tmp_path / "zero.pt")):
        with pytest.raises(InvalidConfig, match="are not a file but a pipe, a socket or a device"):
            locate(model, toy, {}, reader, tmp_path)


def test_weights_above_the_limit_are_refused_before_they_are_read(toy: Trainer, reader: Reader, tmp_path: Path) -> None:
    with (tmp_path / "huge.pt").open("wb") as file:
        file.truncate(LARGEST_WEIGHTS + 1)
    with pytest.raises(InvalidConfig, match="16,000,000,001 bytes, more than"):
        locate(str(tmp_path / "huge.pt"), toy, {}, reader, tmp_path)


def test_weights_in_a_store_are_fetched_into_a_file_and_never_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("read into memory")

    monkeypatch.setattr(Prefix, "read", refuse)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "best.pt").write_bytes(BYTES)
    uri = (tmp_path / "store" / "best.pt").as_uri()
    fetch_weights(uri, tmp_path / "local")
    assert (tmp_path / "local").read_bytes() == BYTES
    monkeypatch.setattr("visionloop.training.weights.LARGEST_WEIGHTS", len(BYTES) - 1)
    with pytest.raises(InvalidConfig, match=f"have {len(BYTES)} bytes, more than the {len(BYTES) - 1} that are read"):
        fetch_weights(uri, tmp_path / "too large")
    assert not (tmp_path / "too large").exists()


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_bytes(b"{}")
    (path / "model.safetensors").write_bytes(BYTES)
    (path / "README.md").write_bytes(b"not read")
    return path


def test_a_folder_by_path_by_uri_and_by_name_has_one_identity(
    folders: Trainer, reader: Reader, objects: dict[str, bytes], tmp_path: Path, nowhere: dict[str, str]
) -> None:
    path = _folder(tmp_path / "store" / "detr small")
    objects |= {f"s3://bucket/detr/{name}": (path / name).read_bytes() for name in ("config.json", "model.safetensors")}
    lines = f"{hashlib.sha256(b'{}').hexdigest()}  config.json\n{DIGEST}  model.safetensors\n"
    digest = hashlib.sha256(lines.encode()).hexdigest()
    environment = {**nowhere, "VISIONLOOP_WEIGHTS": str(path.parent)}
    for model in (str(path), f"{path}/", path.as_uri(), "s3://bucket/detr/", "s3://bucket/detr", "detr small"):
        weights = locate(model, folders, environment, reader, tmp_path)
        assert weights.kind == "folder"
        assert weights.identity == f"sha256:{digest}"
        copied = materialise(weights, reader, tmp_path)
        assert copied is not None
        assert {file.name: file.read_bytes() for file in copied.iterdir()} == {
            "config.json": b"{}",
            "model.safetensors": BYTES,
        }
        assert find(model, folders, environment, objects.__contains__) == "folder"
    assert not (tmp_path / "fetched").exists()


def test_the_first_name_of_a_file_counts_and_a_file_is_still_a_file(
    folders: Trainer, reader: Reader, tmp_path: Path
) -> None:
    path = _folder(tmp_path / "detr")
    (path / "model.bin").write_bytes(b"other")
    assert locate(str(path), folders, {}, reader, tmp_path).files == ("config.json", "model.safetensors")
    (path / "model.safetensors").unlink()
    assert locate(str(path), folders, {}, reader, tmp_path).files == ("config.json", "model.bin")
    assert locate(str(path / "model.bin"), folders, {}, reader, tmp_path).kind == "file"


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("config.json", r"the folder of weights .*/detr/ has no config\.json: put it there"),
        ("model.safetensors", r"the folder of weights .*/detr/ has no model\.safetensors or model\.bin: put it there"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(
    folders: Trainer, reader: Reader, objects: dict[str, bytes], tmp_path: Path, missing: str, sentence: str
) -> None:
    path = _folder(tmp_path / "detr")
    (path / missing).unlink()
    objects |= {f"s3://bucket/detr/{file.name}": file.read_bytes() for file in path.iterdir()}
    for model in (str(path), "s3://bucket/detr/"):
        with pytest.raises(InvalidConfig, match=sentence):
            locate(model, folders, {}, reader, tmp_path)
        with pytest.raises(InvalidConfig, match=sentence):
            find(model, folders, {}, objects.__contains__)


def test_a_folder_with_nothing_of_weights_and_a_trainer_that_takes_none(
    toy: Trainer, folders: Trainer, reader: Reader, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidConfig, match=r"where neither a file nor a folder with config\.json is"):
        locate(str(tmp_path / "empty"), folders, {}, reader, tmp_path)
    with pytest.raises(InvalidConfig, match="where no file is"):
        locate(str(_folder(tmp_path / "detr")), toy, {}, reader, tmp_path)


def test_a_folder_whose_file_changes_or_goes_is_noticed(folders: Trainer, reader: Reader, tmp_path: Path) -> None:
    path = _folder(tmp_path / "detr")
    weights = locate(str(path), folders, {}, reader, tmp_path)
    (path / "config.json").write_bytes(b"{ }")
    with pytest.raises(Transient, match="changed while"):
        materialise(weights, reader, tmp_path)
    (path / "config.json").unlink()
    with pytest.raises(InvalidConfig, match="are gone"):
        materialise(weights, reader, tmp_path)


def test_each_file_of_a_folder_is_checked(folders: Trainer, reader: Reader, tmp_path: Path) -> None:
    path = _folder(tmp_path / "detr")
    (path / "config.json").write_bytes(b"")
    with pytest.raises(InvalidConfig, match=r"config\.json are an empty file"):
        locate(str(path), folders, {}, reader, tmp_path)
    (path / "config.json").write_bytes(b"{}")
    with (path / "model.safetensors").open("wb") as file:
        file.truncate(LARGEST_WEIGHTS + 1)
    with pytest.raises(InvalidConfig, match=r"model\.safetensors have 16,000,000,001 bytes, more than"):
        locate(str(path), folders, {}, reader, tmp_path)
