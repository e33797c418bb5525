"""The compiled files as KFP itself reads them: its messages, its loader, the form, the lineage, and nothing that must not be there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiled import Kubeflow
from google.protobuf import json_format  # type: ignore[import-untyped]
from kfp import compiler, components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from test_pipelines_goldens import CREDENTIAL

from visionloop.core.policy import FINISHED_POD_SECONDS, RUN_DEADLINE_SECONDS, StagePolicy
from visionloop.pipelines.definitions import WORTH_IT
from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.kubeflow.ir import kfp_files
from visionloop.pipelines.targets import DEFAULT_TRAINER, STAGES, cluster

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PIPELINES = sorted(ROOT.glob("manifests/kfp/*.yaml"))

#: Those that train; the others are test_measure_pipeline's and test_predict_pipeline's.
TRAINING = [path for path in PIPELINES if path.stem in ("visionloop-train", "visionloop-retrain")]
COMPONENTS = [ROOT / "components" / stage / "component.yaml" for stage in STAGES]
FILES = [*PIPELINES, *COMPONENTS]

#: What is fetched or installed when a container starts.
INSTALLS = re.compile(
    r"pip3?\s+install|-m\s+pip|\buv\s+pip|apt(-get)?\s+install|conda\s+install|\bcurl\b|\bwget\b|git\s+clone"
)

#: KFP's types of the form's fields, and the defaults, as the UI reads them from the IR; None has to be filled in.
FORM: dict[str, tuple[str, Any]] = {
    "workspace": ("STRING", None),
    "model_name": ("STRING", None),
    "dataset": ("STRING", ""),
    "snapshot": ("STRING", ""),
    "task": ("STRING", ""),
    "split": ("STRING", ""),
    "run_name": ("STRING", ""),
    "description": ("STRING", ""),
    "gate": ("STRING", ""),
    "trainer": ("STRING", "ultralytics"),
    "model": ("STRING", "yolo11n"),
    "imgsz": ("NUMBER_INTEGER", 640),
    "epochs": ("NUMBER_INTEGER", 100),
    "batch": ("NUMBER_INTEGER", 16),
    "lr0": ("NUMBER_DOUBLE", 0.01),
    "optimizer": ("STRING", "SGD"),
    "augment": ("BOOLEAN", True),
    "primary_metric": ("STRING", "mAP50-95"),
    "primary_metric_mode": ("STRING", "max"),
    "advanced_config": ("STRUCT", {}),
    "validate_mode": ("STRING", ""),
    "on_error": ("STRING", ""),
    "storage": ("STRING", ""),
    "dataset_format": ("STRING", ""),
    "classes": ("STRING", ""),
    "where": ("STRING", ""),
    "checks": ("STRING", ""),
    "shards": ("STRING", ""),
    "slices": ("STRING", ""),
    "costs": ("STRING", ""),
    "approve": ("STRING", ""),
    "export": ("STRING", ""),
}
ONLY = {"visionloop-retrain.yaml": {"retraining": ("STRING", "")}}

#: The groups that a person folds and unfolds.
GROUPS = {
    "retraining",
    "validate-shards",
    "convert-shards",
    "left-to-do",
    "rejected-before",
    "evaluated-before",
    "trained-before",
    "train-anew",
    "good-enough",
}

#: Those around the trainers.
OF_TRAINERS = {"trainers", "after convert", *(f"with-{name}" for name in cluster().trainers)}

#: Words that a field's description must hold: what may be given, as KFP's form offers no choices.
NAMED = {
    "workspace": ("s3://", "file://"),
    "dataset": ("s3://", "file://"),
    "snapshot": ("snap_",),
    "task": ("detection", "segmentation", "classification", "pose"),
    "split": ("train=", "val=", "test=", "seed=", "group="),
    "gate": ("floor", "epsilon"),
    "trainer": ("ultralytics",),
    "model": ("s3://", "models:/"),
    "imgsz": ("32", "8192"),
    "epochs": ("1 to 100000",),
    "batch": ("1 to 65536",),
    "lr0": ("1e-09 to 1",),
    "optimizer": ("SGD", "MuSGD", "AdamW", "RMSprop", "auto"),
    "augment": ("true or false",),
    "primary_metric": ("mAP50-95", "mAP50,", "precision", "recall"),
    "primary_metric_mode": ("max", "min"),
    "advanced_config": ("JSON object",),
    "retraining": ("JSON object",),
}


def documents(path: Path) -> list[Any]:
    return list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))


def identity(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=PIPELINES, ids=identity)
def pipeline(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(params=TRAINING, ids=identity)
def training(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(params=FILES, ids=identity)
def file(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_the_files_are_there() -> None:
    assert {path.name for path in PIPELINES} == {
        "visionloop-train.yaml",
        "visionloop-retrain.yaml",
        "visionloop-measure.yaml",
        "visionloop-predict.yaml",
    }
    assert [path for path in COMPONENTS if not path.exists()] == []


# --- KFP's own validation ---


def test_it_is_a_pipeline_specification_without_an_unknown_field(file: Path) -> None:
    specification = json_format.ParseDict(documents(file)[0], pipeline_spec_pb2.PipelineSpec())
    assert specification.sdk_version.startswith("kfp-2.17")
    for executor in specification.deployment_spec["executors"].values():
        json_format.ParseDict(
            json_format.MessageToDict(executor), pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec()
        )


def test_the_platform_part_is_one_of_kubernetes(pipeline: Path) -> None:
    platform = json_format.ParseDict(documents(pipeline)[1], pipeline_spec_pb2.PlatformSpec())
    assert list(platform.platforms) == ["kubernetes"]
    executors = documents(pipeline)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labels = documents(pipeline)[0]["deploymentSpec"]["executors"]
    assert set(executors) == set(labels)
    for settings in executors.values():
        json_format.ParseDict(settings, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_a_run_has_its_limit_and_goes_an_hour_after_its_end(pipeline: Path) -> None:
    """As on Argo: https://github.com/kubeflow/pipelines/blob/2.17.0/api/v2alpha1/pipeline_spec.proto, PipelineConfig."""
    assert documents(pipeline)[1]["platforms"]["kubernetes"]["pipelineConfig"] == {
        "activeDeadlineSeconds": RUN_DEADLINE_SECONDS,
        "resourceTtlOnCompletion": FINISHED_POD_SECONDS,
    }


def test_a_misspelt_field_is_found(pipeline: Path) -> None:
    specification, platform = documents(pipeline)
    specification["root"]["dags"] = {}
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(specification, pipeline_spec_pb2.PipelineSpec())
    first = next(iter(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()))
    first["nodeSelectors"] = {}
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(first, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_kfp_loads_it_and_compiles_the_same_again(file: Path, tmp_path: Path) -> None:
    loaded = components.load_component_from_file(str(file))
    compiler.Compiler().compile(loaded, str(tmp_path / "again.yaml"))
    assert documents(tmp_path / "again.yaml") == documents(file)


# --- the form ---


def test_the_form_has_the_fields_with_their_types_and_defaults(training: Path) -> None:
    fields = documents(training)[0]["root"]["inputDefinitions"]["parameters"]
    wanted = FORM | ONLY.get(training.name, {})
    results = {name: (field["parameterType"], field.get("defaultValue")) for name, field in fields.items()}
    assert results == wanted
    for name, field in fields.items():
        assert bool(field.get("isOptional")) == (wanted[name][1] is not None), name


def test_each_field_says_what_may_be_given(pipeline: Path) -> None:
    fields = documents(pipeline)[0]["root"]["inputDefinitions"]["parameters"]
    for name, field in fields.items():
        text = field["description"]
        assert text.endswith(".")
        assert text[0].isupper() or text.startswith(("detection", "train=")), f"{name}: {text}"
        assert "\n" not in text
        # What predicts is registered, and no file.
        named = () if (pipeline.stem, name) == ("visionloop-predict", "model") else NAMED.get(name, ())
        assert [word for word in named if word not in text] == [], f"{name}: {text}"


def test_pipeline_and_components_have_names_for_people(pipeline: Path) -> None:
    specification = documents(pipeline)[0]
    about = specification["pipelineInfo"]
    assert about["displayName"].startswith("Visionloop: ")
    assert about["description"].endswith(".")
    for graph, name, task in Kubeflow(pipeline.read_text(encoding="utf-8")).tasks():
        shown = task["taskInfo"]["name"]
        assert re.fullmatch(r"[a-z]+([ -][a-z]+)*", shown), (graph, name, shown)


def test_each_group_is_shown_by_a_name_of_ours(training: Path) -> None:
    kfp = Kubeflow(training.read_text(encoding="utf-8"))
    assert groups(kfp) == GROUPS | OF_TRAINERS | ({WORTH_IT} if training.name == "visionloop-retrain.yaml" else set())


def test_the_group_around_the_trainers_has_a_name_too() -> None:
    rows = cluster().trainers
    target = replace(cluster(), trainers={**rows, "toy": rows[DEFAULT_TRAINER]})
    (text,) = kfp_files(target, ["train"]).values()
    of_trainers = OF_TRAINERS | {"with-toy"}
    assert groups(Kubeflow(text)) == GROUPS | of_trainers
    (text,) = kfp_files(
        replace(target, trainers={**rows, "toy": replace(rows[DEFAULT_TRAINER], gpus=0)}), ["train"]
    ).values()
    assert groups(Kubeflow(text)) == GROUPS | of_trainers | {
        "trainers with the same resources",
        "with-resources-of-toy",
        f"with-resources-of-{DEFAULT_TRAINER}",
        "judge",
    }


def with_trainers(*rows: StagePolicy) -> str:
    """The training pipeline's IR for the default trainer and one with each of these rows."""
    target = cluster()
    more = {f"trainer-{number}": replace(row, image=f"image-{number}") for number, row in enumerate(rows)}
    (text,) = kfp_files(replace(target, trainers={**target.trainers, **more}), ["train"]).values()
    return text


def test_a_further_trainer_makes_the_file_at_most_15_percent_longer(usual: StagePolicy) -> None:
    texts = (TRAINING[1].read_text(encoding="utf-8"), with_trainers(usual), with_trainers(usual, usual))
    entry, two, three = (len(text.encode()) for text in texts)
    assert two < 1.15 * entry
    assert three < 1.05 * two


def test_so_does_one_whose_row_is_another_but_for_the_first_of_these(usual: StagePolicy) -> None:
    """It has a task of its own for train, and the first one a group for what it then shares with the others."""
    own = [replace(usual, gpus=0, cpu_limit=f"{number}") for number in (5, 6)]
    texts = (TRAINING[1].read_text(encoding="utf-8"), with_trainers(own[0]), with_trainers(*own))
    entry, two, three = (len(text.encode()) for text in texts)
    assert two < 1.3 * entry
    assert three < 1.15 * two


@pytest.fixture(scope="module")
def usual() -> StagePolicy:
    """The row of the default trainer."""
    return cluster().trainers[DEFAULT_TRAINER]


def test_each_trainer_gets_its_image_and_its_row(usual: StagePolicy) -> None:
    """One that nobody has heard of gets the default trainer's, whose stage reports it."""
    kfp = Kubeflow(with_trainers(usual, replace(usual, gpus=0), usual))
    got = {}
    for graph, _, task in kfp.tasks():
        if task["taskInfo"]["name"] == "after convert":
            (condition,) = [entry for entry in kfp.conditions(graph, task) if "trainer" in entry]
            inputs = task["inputs"]["parameters"]
            got[condition] = tuple(inputs[name]["runtimeValue"]["constant"] for name in ("image", "row"))
    value, tag = "inputs.parameter_values['pipelinechannel--trainer']", cluster().tag
    wanted = {name: (cluster().image(row), DEFAULT_TRAINER) for name, row in cluster().trainers.items()}
    wanted |= {f"trainer-{number}": (f"localhost/image-{number}:{tag}", DEFAULT_TRAINER) for number in (0, 2)}
    wanted["trainer-1"] = (f"localhost/image-1:{tag}", "trainer-1")
    # The condition that is not negated is the branch's own; the default trainer's has none.
    own = {condition.rpartition(" && ")[2]: item for condition, item in got.items()}
    for name in wanted.keys() - {DEFAULT_TRAINER}:
        assert own.pop(f"{value} == '{name}'") == wanted[name]
    assert list(own.values()) == [wanted[DEFAULT_TRAINER]]


def test_equal_parts_are_there_once(pipeline: Path) -> None:
    specification, platform = documents(pipeline)
    executors = specification["deploymentSpec"]["executors"]
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    whole = [json.dumps([executors[label], settings[label]], sort_keys=True) for label in executors]
    parts = [json.dumps(component, sort_keys=True) for component in specification["components"].values()]
    assert [len(set(texts)) for texts in (whole, parts)] == [len(whole), len(parts)]


def groups(kfp: Kubeflow) -> set[str]:
    """The names by which the page shows the groups of tasks."""
    return {
        task["taskInfo"]["name"] for _, _, task in kfp.tasks() if "dag" in kfp.components[task["componentRef"]["name"]]
    }


# --- the lineage ---


#: What each stage and shown result reads of others in every branch: the artifacts' way from the dataset to the registered model.
READ_BEFORE = {"snapshot": set(), "validate": {"snapshot"}, "convert": {"snapshot"}}

#: What comes behind an evaluation.
LAST = ("export", "register")

#: The ways on from there, by the branch that the look-ahead chooses.
READ = {
    "rejected-before": {"reuse-training": {"convert"}, "reuse-evaluation": {"reuse-training"}},
    "evaluated-before": {
        "reuse-training": {"convert"},
        "reuse-evaluation": {"reuse-training"},
        "export": {"reuse-evaluation"},
        "register": {"reuse-evaluation"},
    },
    "trained-before": {"reuse-training": {"convert"}, "evaluate": {"reuse-training"}}
    | {stage: {"evaluate"} for stage in LAST},
    "train-anew": {"train": {"convert"}, "evaluate": {"train"}} | {stage: {"evaluate"} for stage in LAST},
    "validate-shards": {"validate": {"snapshot"}},
    "convert-shards": {"convert": {"snapshot"}},
}

#: The kinds of the artifacts that are handed on.
KINDS = {
    "snapshot": "system.Dataset",
    "convert": "system.Dataset",
    "train": "system.Model",
    "reuse-training": "system.Model",
    "evaluate": "system.Metrics",
    "reuse-evaluation": "system.Metrics",
}


@pytest.mark.parametrize("branch", [None, *READ])
def test_artifacts_lead_from_the_first_stage_to_the_last_in_every_branch(training: Path, branch: str | None) -> None:
    kfp = Kubeflow(training.read_text(encoding="utf-8"))
    inside = {name: kfp.graphs(name) for name in READ}
    here = inside[branch] if branch else set(kfp.components) - set().union(*inside.values())
    results: dict[str, set[str]] = {}
    for stage, tasks in kfp.leaves().items():
        for graph, name, task in tasks:
            if graph not in here:
                continue
            artifacts = task.get("inputs", {}).get("artifacts", {})
            inputs = kfp.components[task["componentRef"]["name"]].get("inputDefinitions", {}).get("artifacts", {})
            assert set(artifacts) == set(inputs), (graph, name)
            assert stage not in results
            results[stage] = set()
            for artifact, value in artifacts.items():
                before = {re.sub(r"-\d+$", "", producer) for producer in kfp.producers(graph, value)}
                assert {KINDS[entry] for entry in before} == {inputs[artifact]["artifactType"]["schemaTitle"]}
                results[stage] |= before
    assert results == (READ[branch] if branch else READ_BEFORE | {"cleanup": set()})


def test_a_result_that_is_shown_again_knows_its_run(training: Path) -> None:
    """So a failure of it is told as the stage's own."""
    leaves = Kubeflow(training.read_text(encoding="utf-8")).leaves()
    for graph, name, task in (*leaves["reuse-training"], *leaves["reuse-evaluation"]):
        assert {"workspace", "run"} <= set(task["inputs"]["parameters"]), (graph, name)


# --- nothing that must not be there ---


def test_nothing_is_installed_when_a_container_starts(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not INSTALLS.search(text)
    for executor in documents(file)[0]["deploymentSpec"]["executors"].values():
        # That of a trainer is an input, which each call of the graph around gives as a constant.
        image = executor["container"]["image"]
        assert image.startswith("localhost/visionloop-") or image == "{{$.inputs.parameters['pipelinechannel--image']}}"


def test_the_pattern_finds_installs() -> None:
    for text in (
        "python3 -m pip install kfp",
        "pip install kfp==2",
        "uv pip install x",
        "apt-get install git",
        "curl x",
    ):
        assert INSTALLS.search(text)


def test_no_credential_is_held(file: Path) -> None:
    assert not CREDENTIAL.search(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("program", ["manifests", "components"])
def test_the_variables_of_whoever_compiles_reach_no_file(program: str, tmp_path: Path) -> None:
    """Every variable that may hold a key or an address is set while all is compiled, and none of it is in any file."""
    canary = "canary0123456789"
    held = {name: f"{canary}{name}" for name in (*pods.SECRET_VARIABLES, *pods.CONFIG_VARIABLES)}
    code = {
        "manifests": "from visionloop.pipelines.compile import compile_engine\n"
        "from visionloop.pipelines.engines import clusters\n"
        "for engine in clusters(): print([path.read_text() for path in compile_engine(engine, Path(sys.argv[1]))])",
        "components": f"sys.path.insert(0, {str(ROOT / 'docs')!r})\nimport components\nprint(components.files())",
    }[program]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom pathlib import Path\n{code}", str(tmp_path)],
        env={**os.environ, **held},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "visionloop-stage" in done.stdout
    assert canary not in done.stdout


def test_no_value_of_a_parameter_exceeds_what_kfp_stores(pipeline: Path) -> None:
    fields = documents(pipeline)[0]["root"]["inputDefinitions"]["parameters"]
    assert [name for name, field in fields.items() if len(json.dumps(field.get("defaultValue"))) > 10_000] == []


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_every_pod_label_is_one_that_kubernetes_takes(path: Path) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set."""
    _, platform = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    values = [value for entry in executors.values() for value in entry["podMetadata"]["labels"].values()]
    assert len(values) >= 2 * len(executors) > 0
    valid = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
    assert [value for value in values if not re.fullmatch(valid, value)] == []


def test_pods_run_kfps_executor_through_ours(file: Path) -> None:
    for executor in documents(file)[0]["deploymentSpec"]["executors"].values():
        script = executor["container"]["command"][2]
        assert "python3 -m visionloop.components.executor kfp.dsl.executor_main " in script
        assert "python3 -m kfp.dsl" not in script


COMPONENT = """
import logging

def component(uri: str):
    logging.getLogger().warning("of the component")
"""


def test_kfps_executor_prints_no_plain_line_and_no_secret_among_json_lines(tmp_path: Path) -> None:
    """It prints all arguments of the stage before the stage begins."""
    (tmp_path / "ephemeral_component.py").write_text(COMPONENT)
    uri = "https://somebody:w0rd-of-honour@example.com/d"
    outputs = {"outputFile": str(tmp_path / "outputs.json"), "parameters": {}, "artifacts": {}}
    arguments = {"inputs": {"parameterValues": {"uri": uri}}, "outputs": outputs}
    words = ("--component_module_path", str(tmp_path / "ephemeral_component.py"), "--function_to_execute", "component")
    command = [
        sys.executable,
        "-m",
        "visionloop.components.executor",
        "kfp.dsl.executor_main",
        *words,
        "--executor_input",
        json.dumps(arguments),
    ]
    environment = {**os.environ, "VISIONLOOP_LOG_FORMAT": "json", "S3_SECRET_KEY": " w0rd-of-honour \n"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
    assert any("Got executor_input" in line["message"] for line in lines)
    assert lines[-1]["message"].startswith(("of the component", "Did not write", "Wrote"))
    assert "w0rd-of-honour" not in done.stdout + done.stderr
