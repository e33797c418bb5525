"""Whatever follows from a run's arguments alone is told before any stage, by one function on every engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_runs import write_distribution

from visionloop.components.snapshot import STAGE
from visionloop.components.snapshot.preflight import FIRST_POD, FROM_OUTSIDE, HERE, NOT_CHECKED, Reach, preflight
from visionloop.core.errors import AccessDenied, InvalidConfig, VisionloopError
from visionloop.core.running import Invocation, run_stage
from visionloop.core.runs import RUN_VARIABLE
from visionloop.pipelines import engines
from visionloop.pipelines.cli.options import Retraining, Training
from visionloop.pipelines.engines import Order
from visionloop.pipelines.parameters import arguments_for, settings_in
from visionloop.training import catalog
from visionloop.training.trainers.ultralytics import TRAINER

#: A model that needs no weights.
SCRATCH = {"model": "yolo11n.yaml"}


def check(reach: Reach = FROM_OUTSIDE, settings: dict[str, object] | None = None, **arguments: Any) -> list[str]:
    """The check of a run whose other arguments are right."""
    whole = {"workspace": "s3://results/work", "dataset": "s3://datasets/digits", **arguments}
    return preflight(whole, SCRATCH if settings is None else settings, reach, {})


@pytest.mark.parametrize("reach", [HERE, FIRST_POD])
@pytest.mark.parametrize("wanted", ["snap_000000000000", "../../snap_000000000000", "newest"])
def test_a_snapshot_that_the_workspace_does_not_have(reach: Reach, wanted: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"holds no snapshot '.*'; it has none"):
        check(reach, workspace=str(tmp_path), dataset="", snapshot=wanted)
    (notice,) = [entry for entry in check(workspace=str(tmp_path), dataset="", snapshot=wanted) if "snapshot" in entry]
    assert notice == f"{NOT_CHECKED}--snapshot {wanted}, which the run looks for."


@pytest.mark.parametrize("reach", [HERE, FROM_OUTSIDE, FIRST_POD])
@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        ({"dataset": ""}, {}, "Give either --dataset"),
        ({"snapshot": "snap_0"}, {}, "Give either --dataset"),
        ({"workspace": "s3://datasets/digits/work"}, {}, "--workspace s3://datasets/digits/work is inside --dataset"),
        ({"storage": "ftp://models"}, {}, "ftp:// is not supported"),
        ({"model_name": "***"}, {}, "--model-name"),
        ({"run_name": "a\x1b[2J"}, {}, "--run-name 'a\\x1b[2J': U+001B"),
        ({"run_name": "two\nlines"}, {}, "--run-name"),
        ({"description": "a\u202eb"}, {}, "U+202E"),
        ({"task": "detecting"}, {}, "--task: 'detecting'"),
        ({"task": "segmentation"}, {}, "segmentation"),
        ({"task": "pose"}, {"model": "yolo11n.yaml"}, "is for detection, but the dataset's task is pose"),
        ({"task": "classification"}, {"mosaic": "0.5"}, "mosaic"),
        ({"split": "train=0.8,val=0.1"}, {}, "split"),
        ({"split": "train=1", "dataset": "", "snapshot": "snap_0"}, {}, "--split and --snapshot"),
        ({"split": "fold=6/5"}, {}, "--split fold 6/5: there is no such fold"),
        ({"split": "train=0.8,val=0.1,test=0.1,group=regex:(a"}, {}, '--split group: "(a" is not a regular expression'),
        ({"split": "time=taken,val=soon,test=2026-01-01"}, {}, "--split val is 'soon', which is not a date"),
        ({"where": "width > 'a'"}, {}, "--where, column 1: width, a number, is compared with a text"),
        ({"where": "width > 1", "dataset": "", "snapshot": "snap_0"}, {}, "--where and --snapshot"),
        ({"classes": '{"drop": 1}'}, {}, "--classes: Expected `array`, got `int`"),
        ({"classes": "/nowhere.yaml"}, {}, "--classes /nowhere.yaml: no text file can be read there"),
        ({"classes": "{}", "dataset": "", "snapshot": "snap_0"}, {}, "--classes and --snapshot"),
        ({"validate_mode": "all"}, {}, "--validate-mode all: give one of annotations, headers, full"),
        ({"on_error": "skip"}, {}, "--on-error skip: give one of fail, quarantine"),
        ({"approve": "later"}, {}, "--approve later: give one of auto, manual"),
        ({}, {"lr0": 100}, "lr0 in --set is 100"),
        ({}, {"epoch": 3}, "'epoch' in --set is not a setting: the nearest is epochs"),
        ({}, {"lr": 0.1}, "'lr' in --set is not a setting: the nearest are lr0 and lrf"),
        ({}, {"imgsz": 100}, "imgsz must be multiple of 32"),
        ({}, {"model": "yolo99q.yaml"}, "not an architecture"),
        (
            {"gate": '{"primary_metric": "accuracy"}'},
            {},
            "primary_metric is accuracy, which detection with ultralytics",
        ),
        ({"gate": '{"flor": 0.5}'}, {}, "the fields are floor"),
        ({"gate": '{"must_pass": " "}'}, {}, "--gate: must_pass is empty"),
        ({"costs": '{"miss": -1}'}, {}, "--costs: miss is -1; give a number from 0"),
        ({"costs": '{"miss": "many"}'}, {}, '--costs: miss is "many"; give a number from 0'),
        ({"costs": "/nowhere.json"}, {}, "--costs /nowhere.json: no text file can be read there"),
        ({"retraining": '{"min_images": 1}'}, {}, "min_images"),
        *(
            ({"shards": text}, {}, f"--shards {text}: give a whole number")
            for text in ("0", "-4", "four", "1e9", "101")
        ),
        ({"checks": '{"same_byte": "off"}'}, {}, "same_byte is not a code of a finding; the nearest one is same_bytes"),
        (
            {"checks": '{"near_duplicate": {"threshold": "a"}}'},
            {},
            'the threshold of near_duplicate is "a"; give a whole',
        ),
        ({"checks": '{"unreadable_image": "off"}'}, {}, "unreadable_image can't be"),
        ({"retraining": '{"min_new_images": 1}'}, {}, "--retraining needs --model-name"),
    ],
)
def test_a_mistake_in_the_arguments_is_told_wherever_the_run_goes(
    arguments: dict[str, Any], settings: dict[str, object], said: str, reach: Reach
) -> None:
    with pytest.raises(VisionloopError) as raised:
        check(reach, SCRATCH | settings, **arguments)
    assert raised.value.exit_code == 78
    assert said in str(raised.value)


def test_a_description_may_have_lines() -> None:
    assert check(description="Two lines,\n\tand a tab.", run_name="Räder 2") == []


def test_what_only_the_cluster_knows_is_a_notice() -> None:
    arguments = {"model_name": "Digits", "gate": "s3://results/gate.json", "retraining": "s3://results/policy.json"}
    assert check(FROM_OUTSIDE, {"model": "models:/digits@champion"}, **arguments) == [
        f"{NOT_CHECKED}whether the weights of model models:/digits@champion are there; the run looks for them.",
        f"{NOT_CHECKED}--gate s3://results/gate.json, which is read by the run.",
        f"{NOT_CHECKED}--retraining s3://results/policy.json, which is read by the run.",
        f"{NOT_CHECKED}the registry, and whether 'digits' is free in it; the run asks it first.",
    ]


@pytest.mark.parametrize("reach", [FROM_OUTSIDE, FIRST_POD])
@pytest.mark.parametrize("model", ["yolo11n", "weights/best.pt", "file:///weights/best.pt"])
def test_weights_of_an_image_and_a_trainer_that_only_its_image_holds_are_notices(model: str, reach: Reach) -> None:
    assert check(reach, {"model": model}) == [
        f"{NOT_CHECKED}whether the weights of model {model} are there; the run looks for them."
    ]
    (notice,) = check(reach, {"trainer": "elsewhere"})
    assert "the trainer elsewhere is not installed here" in notice


def test_on_this_machine_weights_and_trainer_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"weights of model yolo11n were looked for in VISIONLOOP_WEIGHTS"):
        check(HERE, {"model": "yolo11n"})
    with pytest.raises(InvalidConfig, match="where no file is"):
        check(HERE, {"model": str(tmp_path / "best.pt")})
    with pytest.raises(InvalidConfig, match="not installed"):
        check(HERE, {"trainer": "elsewhere"})
    (tmp_path / "best.pt").write_bytes(b"weights")
    assert check(HERE, {"model": str(tmp_path / "best.pt")}) == []
    (tmp_path / "file").touch()
    with pytest.raises(AccessDenied, match="is not a folder"):
        check(HERE, workspace=str(tmp_path / "file" / "work"))


@pytest.mark.parametrize(
    ("task", "metric", "setting"),
    [
        ("detection", "mAP50", {"mosaic": "0"}),
        ("segmentation", "mask_mAP50", {"overlap_mask": "false"}),
        ("pose", "pose_mAP50", {"pose": "10"}),
        ("classification", "accuracy_top5", {"auto_augment": "augmix"}),
    ],
)
def test_where_neither_task_nor_model_is_named_what_some_task_takes_passes(
    tmp_path: Path, task: str, metric: str, setting: dict[str, object]
) -> None:
    suffix = {"detection": "", "segmentation": "-seg", "pose": "-pose", "classification": "-cls"}[task]
    arguments = {"workspace": "s3://results/work", "dataset": "s3://datasets/digits"}
    environment = {"VISIONLOOP_WEIGHTS": str(tmp_path)}
    named = r"the weights of model yolo11n were looked for.*; if the dataset's task is not detection, name it with --task\.$"
    with pytest.raises(InvalidConfig, match=named):
        preflight(arguments, {}, HERE, environment)
    (tmp_path / f"yolo11n{suffix}.pt").write_bytes(b"weights")
    gate = f'{{"primary_metric": "{metric}"}}'
    assert preflight(arguments, {}, HERE, environment) == []
    assert preflight(arguments | {"gate": gate}, setting, HERE, environment) == []
    assert preflight(arguments, setting | {"primary_metric": metric}, HERE, environment) == []
    with pytest.raises(InvalidConfig):
        preflight(arguments | {"gate": '{"primary_metric": "accuracy"}'}, {}, HERE, environment)
    assert preflight(arguments, {}, FIRST_POD, environment) == [
        f"{NOT_CHECKED}whether the weights of the model of the dataset's task are there; the run looks for them."
    ]


def test_a_model_of_a_variable_is_checked_for_its_own_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_NAME", "yolo11n.yaml")
    arguments = {"workspace": "s3://results/work", "dataset": "s3://datasets/digits"}
    with pytest.raises(InvalidConfig, match="mask_mAP50, which detection with ultralytics"):
        preflight(arguments | {"gate": '{"primary_metric": "mask_mAP50"}'}, {}, HERE, dict(os.environ))


@pytest.fixture
def absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer whose library is not installed, in a distribution that is."""
    write_distribution(tmp_path, {catalog.TRAINERS: {"absent": "absent_trainer:TRAINER"}})
    (tmp_path / "absent_trainer.py").write_text(
        "from visionloop.training.trainers.ultralytics import UltralyticsTrainer\n\n\n"
        "class Absent(UltralyticsTrainer):\n    name = 'absent'\n    distribution = 'no-such-library'\n\n\nTRAINER = Absent()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_trainer_whose_library_is_not_installed_is_refused_where_the_run_is_here(absent: None) -> None:
    named: dict[str, object] = {"trainer": "absent", **SCRATCH}
    with pytest.raises(InvalidConfig) as raised:
        check(HERE, named)
    assert raised.value.sentence == (
        "The trainer absent needs the package no-such-library, which is not installed here; "
        "install it with pip install 'no-such-library', or name another trainer."
    )
    assert check(FROM_OUTSIDE, named) == check(FIRST_POD, named) == []
    assert check(HERE) == []


def test_where_no_trainer_is_installed_the_command_is_told(absent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for trainer in catalog.trainers().values():
        monkeypatch.setattr(type(trainer), "distribution", "no-such-library", raising=False)
    with pytest.raises(
        InvalidConfig, match=r"task detection: no trainer for it is installed here; install one with pip"
    ):
        check(HERE)
    # On a cluster the form names one, and its image has the library.
    assert check(FROM_OUTSIDE) == check(FIRST_POD) == []


def test_a_registry_that_can_not_be_one_is_told_first() -> None:
    arguments = {"workspace": "s3://results/work", "dataset": "s3://datasets/digits", "model_name": "digits"}
    with pytest.raises(InvalidConfig, match="give http://localhost:5000"):
        preflight(arguments, SCRATCH, HERE, {"MLFLOW_TRACKING_URI": "localhost:5000"})
    with pytest.raises(InvalidConfig, match="set MLFLOW_TRACKING_URI"):
        preflight(arguments, SCRATCH, FIRST_POD, {})
    with pytest.raises(InvalidConfig, match="can't read models from a folder"):
        preflight(arguments | {"workspace": "work"}, SCRATCH, HERE, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})


def test_who_tracks_the_training_is_checked_first() -> None:
    arguments = {"workspace": "s3://results/work", "dataset": "s3://datasets/digits"}
    unknown = {"OBSERVABILITY_BACKENDS": "mlflow,wandb"}
    with pytest.raises(InvalidConfig, match=r"OBSERVABILITY_BACKENDS: There is no tracker 'wandb'; there are .*mlflow"):
        preflight(arguments, SCRATCH, HERE, unknown)
    # The trainer's image may hold it.
    assert preflight(arguments, SCRATCH, FIRST_POD, unknown) == [
        f"{NOT_CHECKED}the tracker wandb, which is not installed here; train looks for it."
    ]
    unusable = {"OBSERVABILITY_BACKENDS": "tensorboard", "TENSORBOARD_LOG_DIR": "s3://results/board"}
    for reach in (HERE, FIRST_POD):
        with pytest.raises(InvalidConfig, match="TENSORBOARD_LOG_DIR"):
            preflight(arguments, SCRATCH, reach, unusable)
    # The cluster's variables are not those of this machine.
    assert preflight(arguments, SCRATCH, FROM_OUTSIDE, unknown | unusable) == []


def test_a_name_that_another_model_has(mlflow_database: Path) -> None:
    from visionloop.registry import Registry

    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_database}"}
    Registry(environment).ensure_model("preflight-digits", "Preflight Digits")
    arguments = {"workspace": "s3://results/work", "dataset": "s3://datasets/digits"}
    assert preflight(arguments | {"model_name": "Preflight Digits"}, SCRATCH, HERE, environment) == []
    with pytest.raises(InvalidConfig, match="is registered under the given name 'Preflight Digits' already"):
        preflight(arguments | {"model_name": "preflight digits"}, SCRATCH, HERE, environment)


def test_a_key_that_cannot_sign_ends_a_run_of_this_machine_before_it_starts(tmp_path: Path) -> None:
    arguments = {"workspace": "s3://results/work", "dataset": "s3://datasets/digits"}
    environment = {"VISIONLOOP_SIGNING_KEY": str(tmp_path / "none.pem")}
    with pytest.raises(InvalidConfig, match="VISIONLOOP_SIGNING_KEY: the file can't be read"):
        preflight(arguments, SCRATCH, HERE, environment)
    for reach in (FIRST_POD, FROM_OUTSIDE):
        preflight(arguments, SCRATCH, reach, environment)


def test_it_imports_neither_torch_nor_a_training_library(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from visionloop.components.snapshot.preflight import HERE, preflight\n"
        f"given = {{'workspace': {str(tmp_path / 'work')!r}, 'dataset': {str(tmp_path)!r} + '/data'}}\n"
        "preflight(given, {'model': 'yolo11n.yaml'}, HERE, {})\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'torchvision', 'ultralytics', 'mlflow', 'kfp', 'cv2'}))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout == "[]\n", ended.stderr


def test_the_first_stage_checks_the_run_before_it_reads_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    arguments = {"dataset": str(tmp_path / "nothing"), "settings": '{"model": "yolo11n.yaml", "lr0": 100}'}
    with pytest.raises(InvalidConfig, match="lr0 in --set is 100"):
        run_stage(STAGE, arguments, Invocation(workspace=str(tmp_path / "work")))
    with pytest.raises(VisionloopError, match="nothing"):
        run_stage(STAGE, {"dataset": arguments["dataset"]}, Invocation(workspace=str(tmp_path / "work")))


@pytest.mark.parametrize("engine", engines.clusters())
def test_no_engine_is_asked_before_the_check(engine: str) -> None:
    training = Training(
        workspace="s3://results/work", model_name="digits", dataset=["s3://datasets/digits"], settings=["epochs=0"]
    )
    with pytest.raises(InvalidConfig, match="epochs in --set is"):
        engines.engine(engine).run(Order("train", training.arguments(), {"host": "http://127.0.0.1:9"}))


def test_a_schedule_is_checked_as_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from visionloop.pipelines.cli.schedule import create

    training = {"workspace": "s3://results/work", "model_name": "digits", "dataset": "s3://datasets/digits"}
    options: dict[str, Any] = dict.fromkeys(Retraining.__dataclass_fields__) | training
    options |= {"settings": ["epochs=0"], "cron": "0 3 * * *", "name": "nightly", "engine": "argo"}
    options |= {"parameters": None, "timezone": "UTC", "namespace": None, "host": "http://127.0.0.1:9"}
    with pytest.raises(InvalidConfig, match="epochs in --set is"):
        create(**options)


def test_settings_are_the_same_after_the_way_through_a_form() -> None:
    settings: dict[str, Any] = {"epochs": "5", "trainer": "ultralytics", "mosaic": "0", "lr0": "much"}
    returned = settings_in(arguments_for(settings))
    assert {name: str(value) for name, value in returned.items()} == settings
    assert os.environ.get("CONFIG") is None


def test_what_needs_the_datasets_task_is_told_by_the_first_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    from visionloop.components.snapshot.preflight import check_for_task

    check_for_task({"model": "yolo11n.yaml"}, "detection", None, {})
    check_for_task({"trainer": "elsewhere"}, "pose", None, {})
    with pytest.raises(InvalidConfig, match="is for segmentation, but the dataset's task is detection"):
        check_for_task({"model": "yolo11n-seg.yaml"}, "detection", None, {})
    check_for_task({"model": "yolo11n-pose.yaml"}, "pose", None, {})
    with pytest.raises(InvalidConfig, match="primary_metric is mask_mAP50, which detection"):
        check_for_task({"model": "yolo11n.yaml"}, "detection", '{"primary_metric": "mask_mAP50"}', {})
    monkeypatch.setattr(type(TRAINER), "tasks", frozenset({"detection"}))
    with pytest.raises(InvalidConfig, match="task pose: the trainer ultralytics trains detection"):
        check_for_task({"trainer": "ultralytics", "model": "yolo11n-pose.yaml"}, "pose", None, {})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("VISIONLOOP_EVENTS_URL", "events.example.com", "VISIONLOOP_EVENTS_URL is not the address of a receiver"),
        ("VISIONLOOP_EVENTS_SECRET", "short", "VISIONLOOP_EVENTS_SECRET has 5 characters"),
        ("CALLBACK_URL", "not a URL", "CALLBACK_URL is not the address of a receiver"),
        ("CALLBACK_TOKEN", "two words", "CALLBACK_TOKEN holds a character"),
        ("CALLBACK_INTERVAL", "never", "CALLBACK_INTERVAL is 'never'"),
    ],
)
def test_who_is_told_of_a_training_is_checked_where_its_variables_are(variable: str, value: str, said: str) -> None:
    arguments = {"workspace": "s3://results/work", "dataset": "s3://datasets/digits"}
    for reach in (HERE, FIRST_POD):
        with pytest.raises(InvalidConfig, match=said):
            preflight(arguments, SCRATCH, reach, {variable: value})
    # The variables of a person who starts a run on a cluster are not those of its pods.
    assert preflight(arguments, SCRATCH, FROM_OUTSIDE, {variable: value}) == check(FROM_OUTSIDE)


def test_the_list_of_the_gate_is_read_where_the_run_would_read_it(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image,class\n")
    gate = json.dumps({"must_pass": (tmp_path / "list.csv").as_uri()})
    for reach in (HERE, FIRST_POD):
        with pytest.raises(VisionloopError, match=r"--gate: must_pass .*list\.csv: line 1: the columns are"):
            check(reach, gate=gate)
    assert f"{NOT_CHECKED}--gate: must_pass {(tmp_path / 'list.csv').as_uri()}, which is read by the run." in check(
        FROM_OUTSIDE, gate=gate
    )


def test_costs_at_a_uri_of_a_cluster_are_read_by_the_run() -> None:
    assert f"{NOT_CHECKED}--costs s3://inside/costs.json, which is read by the run." in check(
        FROM_OUTSIDE, costs="s3://inside/costs.json"
    )
