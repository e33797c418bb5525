"""``visionloop deploy``: what it writes for KServe, that its command and its smoke test work, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from untrained import register

from visionloop.components.export.result import ExportResult
from visionloop.core import secrets
from visionloop.core.errors import InvalidConfig, InvalidReceipt, VisionloopError
from visionloop.core.storage import open_prefix
from visionloop.pipelines.cli.export import exported
from visionloop.pipelines.cli.main import application
from visionloop.pipelines.deploying import deploy, kserve, triton
from visionloop.pipelines.deploying.order import Order, Wanted
from visionloop.registry import Registry, Version
from visionloop.registry.versions import STORAGE_URI

STORE = "s3://results/work/register/model"
TOKEN = "a-token-of-the-tests"


@pytest.fixture
def version(registry: Registry, name: str, tmp_path: Path) -> Version:
    """A registered classifier, whose files lie in a folder."""
    folder = tmp_path / "files"
    folder.mkdir()
    return register(registry, "timm", "classification", name, folder)


def order(version: Version, **wanted: Any) -> Order:
    return Order(version, STORE, "timm", Wanted(**wanted))


def service(version: Version, **wanted: Any) -> dict[str, Any]:
    """The InferenceService as it is written."""
    value = yaml.safe_load(kserve.files(order(version, **wanted))[kserve.SERVICE])
    assert isinstance(value, dict)
    return value


def command(*words: object) -> None:
    application(["deploy"])(["deploy", *map(str, words)], standalone_mode=False)


def test_an_inference_service_pins_the_version_and_has_what_serving_reads(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in secrets.CREDENTIALS:
        monkeypatch.setenv(entry.name, "a-secret-of-this-machine")
    made = service(version, registry="registry.example.com/vision", tag="1.2", namespace="models", gpus=1, canary=10)
    predictor = made["spec"]["predictor"]
    (container,) = predictor["containers"]
    assert (made["apiVersion"], made["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert made["metadata"]["name"] == version.name
    assert made["metadata"]["namespace"] == "models"
    assert made["metadata"]["labels"]["visionloop/version"] == "1"
    assert (predictor["minReplicas"], predictor["maxReplicas"], predictor["canaryTrafficPercent"]) == (1, 3, 10)
    assert container["name"] == "kserve-container"
    assert container["image"] == "registry.example.com/vision/visionloop-trainer-timm:1.2"
    assert container["args"] == ["serve", f"{version.name}/1", "--host", "0.0.0.0", "--port", "8080"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": 8080}
    assert container["livenessProbe"]["initialDelaySeconds"] >= 60
    assert (
        container["resources"]["limits"]["nvidia.com/gpu"]
        == container["resources"]["requests"]["nvidia.com/gpu"]
        == "1"
    )
    assert predictor["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    security = container["securityContext"]
    assert (security["runAsNonRoot"], security["readOnlyRootFilesystem"]) == (True, True)
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["volumeMounts"] == [{"name": "scratch", "mountPath": "/tmp"}]
    assert predictor["volumes"] == [{"name": "scratch", "emptyDir": {}}]
    assert predictor["automountServiceAccountToken"] is False
    assert {entry["secretRef"]["name"] for entry in container["envFrom"]} == {
        "visionloop-results",
        "visionloop-registry",
    }
    variables = {entry["name"]: entry for entry in container["env"]}
    assert variables["VISIONLOOP_SERVE_TOKEN"]["valueFrom"]["secretKeyRef"] == {
        "name": "visionloop-serve", "key": "VISIONLOOP_SERVE_TOKEN",
    }  # fmt: skip
    assert variables["HOME"]["value"] == "/tmp"
    assert {"INTERNAL_S3_ENDPOINT", "MLFLOW_TRACKING_URI"} <= set(variables)
    assert "EXTERNAL_S3_ENDPOINT" not in variables
    assert "a-secret-of-this-machine" not in "".join(kserve.files(order(version)).values())


def test_another_version_is_another_revision_of_the_same_service(version: Version) -> None:
    first, second = service(version), service(replace(version, number=2))
    assert first["metadata"]["name"] == second["metadata"]["name"]
    for key in ("canaryTrafficPercent", "tolerations"):
        assert key not in first["spec"]["predictor"]
    assert first["spec"]["predictor"]["labels"] != second["spec"]["predictor"]["labels"]
    assert kserve.files(order(version)) == kserve.files(order(version))


def test_the_name_is_one_that_hosts_can_have(version: Version) -> None:
    assert order(replace(version, name="7-eleven")).name == "m-7-eleven"
    assert len(order(replace(version, name="a" * 63)).name) <= 40
    assert order(version, name="shelves").name == "shelves"


@contextlib.contextmanager
def serving(made: dict[str, Any], folder: Path, mlflow: str) -> Iterator[str]:
    """The container's own command with its own variables, on a free port; yields its address."""
    (container,) = made["spec"]["predictor"]["containers"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = [port if word == "8080" else word for word in container["args"]]
    own = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    own |= {"HOME": str(folder), "TMPDIR": str(folder), "VISIONLOOP_SERVE_TOKEN": TOKEN, "MLFLOW_TRACKING_URI": mlflow}
    code = "from visionloop.pipelines.cli import main; main()"
    environment = {"PATH": os.environ["PATH"], "MLFLOW_DISABLE_TELEMETRY": "true", **own}
    with subprocess.Popen([sys.executable, "-c", code, *words], env=environment, cwd=folder) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, 143)


def smoke_test(folder: Path, address: str, token: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(folder / kserve.SMOKE_TEST), address, "60"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "VISIONLOOP_SERVE_TOKEN": token},
        timeout=120,
    )


@pytest.mark.slow
def test_the_command_of_its_pods_passes_the_smoke_test(version: Version, mlflow_uri: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = deploy("kserve", order(version), str(out))
    assert sorted(made.files) == ["inferenceservice.yaml", "smoke_test.json", "smoke_test.py"]
    with serving(yaml.safe_load((out / kserve.SERVICE).read_text()), tmp_path, mlflow_uri) as address:
        passed = smoke_test(out, address, TOKEN)
        assert (passed.returncode, passed.stderr) == (0, "")
        assert passed.stdout.startswith(f"{version.name}/1 is ready and answers: 2 predictions")
        assert "answers 401" in smoke_test(out, address, "another-token-than-that").stderr
        other = json.loads((out / kserve.EXAMPLE).read_text()) | {"version": "2"}
        (out / kserve.EXAMPLE).write_text(json.dumps(other))
        assert "answers 404" in smoke_test(out, address, TOKEN).stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--to", "heroku"), "--to heroku: give kserve or triton"),
        (("--to", "kserve", "--name", "Shelf_1"), "--name 'Shelf_1': give small letters"),
        (("--to", "kserve", "--name", "7up"), "a letter first"),
        (("--to", "kserve", "--namespace", "{{x}}"), "--namespace '{{x}}'"),
        (("--to", "kserve", "--registry", "https://x"), "can't begin an image's name"),
        (("--to", "kserve", "--tag", "a b"), "can't be an image's tag"),
        (("--to", "kserve", "--canary", "101"), "--canary 101: give a share from 0 to 100 percent"),
        (("--to", "kserve", "--min-replicas", "4"), "--min-replicas 4 and --max-replicas 3"),
        (("--to", "kserve", "--max-replicas", "0", "--min-replicas", "0"), "the second at least 1"),
    ],
)
def test_what_can_t_be_meant_is_refused_before_the_registry_is_asked(
    words: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig, match=part):
        command("nobody@champion", *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_and_a_model_that_no_pod_reaches_are_refused(
    version: Version, mlflow_uri: str, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes").touch()
    with pytest.raises(InvalidConfig, match="holds files already"):
        command(f"{version.name}/1", "--to", "kserve", "--out", tmp_path / "full")
    with pytest.raises(InvalidConfig, match="this is a file"):
        command(f"{version.name}/1", "--to", "kserve", "--out", tmp_path / "full/notes")
    with pytest.raises(InvalidConfig, match=r"where no pod reaches it; register it from a workspace in a store"):
        command(f"{version.name}@champion", "--to", "kserve", "--out", tmp_path / "out")
    with pytest.raises(VisionloopError, match="no such version"):
        command(f"{version.name}/9", "--to", "kserve", "--out", tmp_path / "out")
    with pytest.raises(InvalidConfig, match="no such model is registered"):
        command("nobody@champion", "--to", "kserve", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def exported_as_onnx(version: Version, registry: Registry, folder: Path) -> Version:
    """The version with its ONNX file beside it, as register puts an accepted one there."""
    report = exported(f"{version.name}/{version.number}", "onnx", folder, [], "a test")
    assert report.file is not None
    there = folder / "exports/onnx-fp32"
    there.mkdir(parents=True)
    Path(report.file).rename(there / "model.onnx")
    accepted = ExportResult(format="onnx", precision="fp32", accepted=True, size=report.size, sha256=report.sha256)
    (there / "export.json").write_bytes(accepted.encode())
    registry.tag(version, {STORAGE_URI: folder.as_uri()})
    found = registry.version(version.name, version.number)
    assert found is not None
    return found


def test_a_triton_repository_has_what_the_file_takes_and_gives(
    version: Version, registry: Registry, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    found = exported_as_onnx(version, registry, tmp_path / "copy")
    out = tmp_path / "repository"
    (out / "another").mkdir(parents=True)
    (out / "another/config.pbtxt").touch()
    made = deploy("triton", order(found, name="shelves", gpus=1), str(out))
    assert made.files == ["shelves/1/model.onnx", "shelves/config.pbtxt"]
    config = (out / "shelves/config.pbtxt").read_text()
    session = onnxruntime.InferenceSession(out / "shelves/1/model.onnx")
    for field, tensors in (("input", session.get_inputs()), ("output", session.get_outputs())):
        for tensor in tensors:
            sides = ", ".join(map(str, tensor.shape))
            assert f'{field} [ {{ name: "{tensor.name}" data_type: TYPE_FP32 dims: [ {sides} ] }} ]' in config
    assert config.startswith('name: "shelves"\nbackend: "onnxruntime"\nmax_batch_size: 0\n')
    assert "dynamic_batching" not in config
    assert "instance_group [ { count: 1 kind: KIND_GPU } ]" in config
    assert "specific: { versions: [ 1 ] }" in config
    with pytest.raises(InvalidConfig, match=r"shelves/1/ of it holds files already"):
        deploy("triton", order(found, name="shelves"), str(out))


def test_requests_are_put_together_where_the_file_takes_any_number(version: Version) -> None:
    inputs, outputs = [triton.Tensor("images", "FP32", (-1, 3, 64, 64))], [triton.Tensor('a"b', "INT64", (-1, -1, 6))]
    config = triton.config(order(version), inputs, outputs)
    assert "max_batch_size: 8" in config
    assert 'input [ { name: "images" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]' in config
    assert 'output [ { name: "a\\"b" data_type: TYPE_INT64 dims: [ -1, 6 ] } ]' in config
    assert "dynamic_batching { max_queue_delay_microseconds: 5000 }" in config


def test_without_the_accepted_file_nothing_is_deployed_to_triton(
    version: Version, registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(
        InvalidConfig, match=r"has no accepted export onnx:fp32 at .*; run its training again with --export onnx"
    ):
        deploy("triton", Order(version, (tmp_path / "files/model").as_uri(), "timm", Wanted()), str(tmp_path / "out"))
    found = exported_as_onnx(version, registry, tmp_path / "copy")
    there = tmp_path / "copy/exports/onnx-fp32"
    (there / "model.onnx").write_bytes(b"another")
    with pytest.raises(InvalidReceipt, match="not the file that was accepted"):
        deploy("triton", order(found), str(tmp_path / "out"))
    (there / "export.json").write_bytes(ExportResult(format="onnx", precision="fp32", accepted=False).encode())
    with pytest.raises(InvalidConfig, match="has no accepted export"):
        deploy("triton", order(found), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_repository_may_lie_in_a_store(
    version: Version, registry: Registry, tmp_path: Path, s3_workspace: str
) -> None:
    found = exported_as_onnx(version, registry, tmp_path / "copy")
    deploy("triton", order(found, name="shelves"), f"{s3_workspace}/repository")
    stored = open_prefix(f"{s3_workspace}/repository", "results").objects()
    assert {info.key for info in stored} == {"shelves/1/model.onnx", "shelves/config.pbtxt"}
