"""Stages in containers: what Docker is asked for, what is refused, and, where it runs, the whole pipeline in containers."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from laptop import HARDLY_TRAINED, TINY, Dataset, Laptop, wait_for

from visionloop.components.calls import STAGES_OF
from visionloop.core.errors import InvalidConfig
from visionloop.core.policy import POLICIES
from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.laptop.run import LocalRun, containers, run_pipeline, with_trainer
from visionloop.pipelines.targets import DEFAULT_TRAINER
from visionloop.pipelines.targets import laptop as laptop_target

STAGES = STAGES_OF["train"]

#: Read before any test takes the variables away.
ENGINE = {
    name: os.environ[name] for name in ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH") if name in os.environ
}

IMAGES = sorted({laptop_target().image(laptop_target().row(stage, DEFAULT_TRAINER)) for stage in POLICIES})

RUN = """
import json, sys
from pathlib import Path
from visionloop.core.errors import VisionloopError
from visionloop.pipelines.engines.laptop.run import LocalRun, run_pipeline
fields = json.loads(sys.argv[1])
try:
    result = run_pipeline(LocalRun(**{**fields, "stages": tuple(fields["stages"]), "logs": Path(fields["logs"])}))
except VisionloopError as error:
    print(error.sentence, file=sys.stderr)
    sys.exit(error.exit_code)
print(json.dumps(result.summary()))
"""


def missing() -> str | None:
    """Why stages can't run in containers here, or None."""
    import docker  # type: ignore[import-untyped]

    client = None
    # The client leaves the socket open over which nobody answered.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with contextlib.suppress(docker.errors.DockerException, OSError):
            client = docker.from_env(environment=ENGINE)
        gc.collect()
    if client is None:
        return "Docker is not running here: start it, or set DOCKER_HOST, to run stages in containers"
    try:
        existing = {tag for image in client.images.list() for tag in image.tags}
    finally:
        client.close()
    lacking = [image for image in IMAGES if image not in existing]
    return f"{lacking[0]} is not here: build it with make images to run stages in containers" if lacking else None


def arguments(**options: Any) -> dict[str, Any]:
    info = options.pop("info", {})
    environment = options.pop("environment", {})
    return containers.run_arguments("/nowhere/kfp", {"workspace": "s3://results/w", **options}, environment, info)


def mounts(made: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    return {mount["Source"]: (mount["Target"], mount["ReadOnly"]) for mount in made["mounts"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("VISIONLOOP_CACHE", str(folder))
    return folder


# --- what Docker is asked for ---


def test_kfp_takes_what_is_asked_for() -> None:
    from kfp import local

    made = arguments(info={"Runtimes": {"nvidia": {}}})
    assert local.DockerRunner(**made).container_run_args == made


def test_a_container_has_the_hosts_network_no_rights_and_the_callers_user() -> None:
    made = arguments()
    assert made["network_mode"] == "host"
    assert made["entrypoint"] == ["env"]
    assert made["user"] == f"{os.getuid()}:{os.getgid()}"
    assert (made["cap_drop"], made["security_opt"]) == (["ALL"], ["no-new-privileges"])
    assert made["labels"] == {containers.LABEL: "/nowhere/kfp"}
    assert made["shm_size"] == "2g"
    assert "device_requests" not in made


def test_an_engine_of_the_users_own_maps_its_root_to_the_user() -> None:
    assert arguments(info={"SecurityOptions": ["name=seccomp", "name=rootless"]})["user"] == "0:0"


def test_gpus_are_asked_for_where_the_engine_has_them() -> None:
    (request,) = arguments(info={"Runtimes": {"runc": {}, "nvidia": {}}})["device_requests"]
    assert (request["Count"], request["Capabilities"]) == (-1, [["gpu"]])


def test_keys_and_endpoints_reach_the_container_and_this_machines_own_matters_do_not() -> None:
    values = {name: f"value of {name}" for name in (*pods.SECRET_VARIABLES, *pods.CONFIG_VARIABLES)}
    values |= {
        "VISIONLOOP_RUN": "one",
        "VISIONLOOP_EVENTS": "/nowhere/kfp/events.jsonl",
        "TRACE_ID": "t",
        "no_proxy": "*",
    }
    here = dict.fromkeys(("VISIONLOOP_HOME", "VISIONLOOP_RUNNER_PID", "AWS_PROFILE", "HOME", "PATH", "PWD"), "/here")
    result = containers.variables({**values, **here, "LD_PRELOAD": "x", "SSH_AUTH_SOCK": "y"})
    assert values.items() <= result.items()
    assert set(result) - set(values) == {*pods.ENVIRONMENT, "VISIONLOOP_CACHE", "USER", "LOGNAME"}
    assert result["HOME"] == pods.SCRATCH


def test_the_key_that_signs_reaches_no_container_and_a_run_that_would_be_signed_is_refused() -> None:
    signed = {"VISIONLOOP_SIGNING_KEY": "/here/signer.pem"}
    assert "VISIONLOOP_SIGNING_KEY" not in containers.variables(signed)
    with pytest.raises(InvalidConfig, match="VISIONLOOP_SIGNING_KEY: --runner docker signs no model"):
        arguments(environment=signed)


def test_stores_elsewhere_need_no_folder_of_this_machine(cache: Path) -> None:
    values = {"dataset": "s3://datasets/digits", "gate": '{"floor": 0.5}', "model": "yolo11n"}
    environment = {"MLFLOW_TRACKING_URI": "http://mlflow:5000", "VISIONLOOP_WEIGHTS": "s3://weights"}
    assert mounts(arguments(**values, environment=environment)) == {str(cache): (pods.CACHE, False)}


def test_folders_that_the_run_names_lie_where_they_lie_here(tmp_path: Path, cache: Path) -> None:
    dataset, weights, gate = tmp_path / "data set", tmp_path / "weights", tmp_path / "gate.json"
    dataset.mkdir()
    weights.mkdir()
    gate.write_text("{}")
    workspace, database = tmp_path / "new" / "workspace", tmp_path / "home" / "mlflow.db"
    tracked, board = tmp_path / "tracked" / "tracking.db", tmp_path / "board"
    made = arguments(
        workspace=workspace.as_uri(),
        dataset=dataset.as_uri(),
        gate=gate.as_uri(),
        model=str(weights),
        environment={
            "MLFLOW_TRACKING_URI": f"sqlite:///{database}",
            "VISIONLOOP_WEIGHTS": weights.as_uri(),
            "VISIONLOOP_DATABASE_URL": f"sqlite:///{tracked}",
            "TENSORBOARD_LOG_DIR": str(board),
        },
    )
    assert mounts(made) == {
        str(dataset): (str(dataset), True),
        str(gate): (str(gate), True),
        str(weights): (str(weights), True),
        str(workspace): (str(workspace), False),
        str(database.parent): (str(database.parent), False),
        str(tracked.parent): (str(tracked.parent), False),
        str(board): (str(board), False),
        str(cache): (pods.CACHE, False),
    }
    assert workspace.is_dir()


def test_a_dataset_in_the_workspace_can_be_written(tmp_path: Path) -> None:
    assert mounts(arguments(workspace=tmp_path.as_uri(), dataset=tmp_path.as_uri()))[str(tmp_path)] == (
        str(tmp_path),
        False,
    )


def test_what_is_not_there_is_left_to_the_stage_to_tell(tmp_path: Path, cache: Path) -> None:
    assert mounts(arguments(dataset=(tmp_path / "missing").as_uri())) == {str(cache): (pods.CACHE, False)}


@pytest.mark.parametrize("workspace", ["file:///", "file:///usr", "file:///tmp"])
def test_a_folder_that_would_hide_the_image_is_refused(workspace: str) -> None:
    with pytest.raises(InvalidConfig, match="can't be seen in a container; give a folder of its own"):
        arguments(workspace=workspace)


# --- what is refused before anything starts ---


def run_of(folder: Path, runner: str) -> LocalRun:
    return LocalRun("none:none", {}, STAGES, str(folder / "workspace"), "one", None, folder / "logs", runner=runner)


def test_a_runner_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"^--runner podman: give one of subprocess, docker\.$"):
        run_pipeline(run_of(tmp_path, "podman"))


def test_without_an_engine_the_run_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(InvalidConfig, match=r"^--runner docker: no Docker engine answers on this machine; start it"):
        run_pipeline(run_of(tmp_path, "docker"))
    assert list(tmp_path.iterdir()) == []


def test_ending_containers_where_no_engine_is_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    containers.stop("/nowhere/kfp", signal.SIGTERM, 1)


# --- where Docker runs ---


@pytest.fixture
def docker_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import docker  # type: ignore[import-untyped]

    reason = missing()
    if reason:
        pytest.skip(reason)
    for name, value in ENGINE.items():
        monkeypatch.setenv(name, value)
    client = docker.from_env()
    yield client
    client.close()


def command(laptop: Laptop, options: dict[str, Any], run: str) -> list[str]:
    fields = {
        "pipeline": "visionloop.pipelines.engines.kubeflow.train:train_pipeline",
        "arguments": {"workspace": laptop.workspace.uri, "model_name": "Tiny Digits", **options},
        "stages": STAGES,
        "workspace": laptop.workspace.uri,
        "run": run,
        "trace_id": None,
        "logs": str(laptop.folder / "logs"),
        "runner": "docker",
    }
    return [sys.executable, "-c", RUN, json.dumps(fields)]


def settings() -> dict[str, Any]:
    from visionloop.pipelines.parameters import arguments_for
    from visionloop.training.configuration import parse_settings

    return arguments_for(parse_settings(list(TINY)))


def test_a_run_in_containers_names_its_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image of the data stages has no library by which its stages could choose one."""

    def named(**arguments: Any) -> dict[str, Any]:
        whole = {"workspace": "s3://r/w", "task": "pose", **arguments}
        return dict(with_trainer(LocalRun("", whole, STAGES, "s3://r/w", "run", None, tmp_path)).arguments)

    plain = {"workspace": "s3://r/w", "task": "pose"}
    assert named() == plain | {"advanced_config": {"trainer": DEFAULT_TRAINER}}
    assert named(epochs=3, augment=False, advanced_config={"mosaic": 0.5}) == plain | {
        "epochs": 3,
        "augment": False,
        "advanced_config": {"mosaic": 0.5, "trainer": DEFAULT_TRAINER},
    }
    assert named(trainer="timm") == plain | {"trainer": "timm"}
    monkeypatch.setenv("FRAMEWORK", "timm")
    assert named() == plain | {"trainer": "timm"}


def test_a_missing_image_is_refused(docker_engine: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"the image localhost/nothing:0 is not on this machine; build it"):
        containers.require(["localhost/nothing:0"])


@pytest.mark.timeout(900)
def test_the_pipeline_runs_in_containers_and_meets_the_keys_of_processes(
    docker_engine: Any, laptop: Laptop, digits: Dataset
) -> None:
    environment = {**laptop.environment, **ENGINE}
    values = {"dataset": digits.uri, "gate": HARDLY_TRAINED[1], **settings()}
    first = subprocess.run(
        command(laptop, values, "first"), env=environment, capture_output=True, text=True, check=False, timeout=800
    )
    assert first.returncode == 0, first.stderr + (laptop.folder / "logs" / "first.log").read_text()[-4000:]
    summary = json.loads(first.stdout.splitlines()[-1])
    assert (summary["version"], summary["alias"]) == (1, "champion")
    assert "epoch 2/2" in first.stderr
    again = laptop.train(digits.uri, settings=TINY).expect().summary
    assert {name: entry["reused"] for name, entry in again["stages"].items() if name != "cleanup"} == dict.fromkeys(
        (name for name in STAGES if name != "cleanup"), True
    )
    assert again["stages"]["train"]["key"] == summary["stages"]["train"]["key"]


@pytest.mark.timeout(900)
def test_a_failing_stage_in_a_container_tells_its_sentence(
    docker_engine: Any, file_laptop: Laptop, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    ended = subprocess.run(
        command(file_laptop, {"dataset": (tmp_path / "empty").as_uri()}, "bad"),
        env={**file_laptop.environment, **ENGINE},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert ended.returncode == 65, ended.stderr
    assert "Traceback" not in ended.stderr
    owners = {path.stat().st_uid for path in tmp_path.rglob("*")}
    assert owners == {os.getuid()}


@pytest.mark.timeout(900)
def test_ctrl_c_ends_the_stage_in_its_container(docker_engine: Any, laptop: Laptop, digits: Dataset) -> None:
    values = {"dataset": digits.uri, **settings(), "epochs": 1000}
    environment = {**laptop.environment, **ENGINE}
    errors = laptop.folder / "stderr"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(command(laptop, values, "stopped"), env=environment, stderr=stderr, stdout=stderr) as process,
    ):
        wait_for(lambda: "epoch 1/1000" in errors.read_text() or process.poll() is not None, patience=600)
        assert process.poll() is None, errors.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == 130
    failure = laptop.record("stopped").failure("train")
    assert failure is not None
    assert failure.exit_code == 130
    assert docker_engine.containers.list(filters={"label": containers.LABEL}) == []
