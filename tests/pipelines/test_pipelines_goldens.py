"""The compiled files: current, whole, without secrets and small."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiled import Kubeflow, config_variables
from hera.shared._pydantic import APIBaseModel
from hera.workflows.models import Container, CronWorkflow, WorkflowTemplate

from visionloop.components.calls import STAGES
from visionloop.core import secrets
from visionloop.core.errors import InvalidConfig
from visionloop.core.policy import StagePolicy
from visionloop.pipelines.compile import compile_engine
from visionloop.pipelines.engines import clusters, pods
from visionloop.pipelines.engines.argo.manifests import argo_files, dump
from visionloop.pipelines.engines.argo.train import template_of
from visionloop.pipelines.engines.kubeflow.ir import kfp_files
from visionloop.pipelines.targets import BY_TRAINER, cluster

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT / "manifests"

#: Bytes that a compiled pipeline may have: KFP hands it to Argo in one object, which etcd takes up to 1.5 MB of; an Argo
#: template is copied into each workflow's status.
BUDGET = {"kfp": 200_000, "argo": 28_000}

#: Bytes that each trainer but the first may add.
BUDGET_OF_A_TRAINER = 5_200

#: What a value that should be a reference looks like: keys of the known kinds, tokens, a password in a URL, PEM.
CREDENTIAL = re.compile(
    r"AKIA[0-9A-Z]{16}|eyJ[\w-]{20,}\.[\w-]+|://[^/\s:@]+:[^/\s@]+@|-----BEGIN|gh[pousr]_\w{20,}|\bhf_\w{20,}"
    r"|(?i:secret|password|token|key)[\"']?\s*[:=]\s*[\"'](?!visionloop/)[A-Za-z0-9+/_-]{16,}[\"']"
)


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, str]]:
    target = cluster()
    return {"argo": argo_files(target), "kfp": kfp_files(target)}


def structures(text: str) -> list[Any]:
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


@pytest.mark.parametrize("engine", clusters())
def test_the_goldens_are_what_the_sources_compile_to(engine: str, files: dict[str, dict[str, str]]) -> None:
    folder = GOLDENS / engine
    existing = {path.name for path in folder.iterdir()} if folder.exists() else set()
    assert existing == set(files[engine]), f"manifests/{engine}: run 'make golden' and commit the result"
    for name, text in files[engine].items():
        golden = (folder / name).read_text(encoding="utf-8")
        assert structures(golden) == structures(text), (
            f"manifests/{engine}/{name}: run 'make golden' and commit the result"
        )


@pytest.mark.parametrize("engine", clusters())
def test_compiling_again_gives_the_same_text(
    engine: str, files: dict[str, dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="visionloop")
    written = compile_engine(engine, tmp_path / "new" / "folder")
    assert {path.name: path.read_text(encoding="utf-8") for path in written} == files[engine]
    assert written == sorted(written)
    assert ("kfp can't express: retries by exit code" in caplog.text) == (engine == "kfp")
    assert "argo can't express" not in caplog.text


def test_without_gpus_kubeflow_asks_for_none_and_for_no_node_that_has_some(tmp_path: Path) -> None:
    for path in compile_engine("kfp", tmp_path, gpus=0):
        text = path.read_text(encoding="utf-8")
        assert "nvidia.com/gpu" not in text
    for path in compile_engine("kfp", tmp_path, gpus=2):
        # An evaluation has one of them, and a model that is only measured no training.
        trains = set() if path.stem in ("visionloop-measure", "visionloop-predict") else {"'2'"}
        assert set(re.findall("resourceCount: (.*)", path.read_text(encoding="utf-8"))) == {"'1'"} | trains
    with pytest.raises(InvalidConfig, match="parameter of each run"):
        compile_engine("argo", tmp_path, gpus=0)


def test_registry_and_tag_reach_every_image(tmp_path: Path) -> None:
    for engine in clusters():
        for path in compile_engine(engine, tmp_path / engine, "registry.example.com/vision", "9.8.7"):
            images = re.findall(r"(\S+)/visionloop-(?:stage|trainer-[a-z]+):(\S+)", path.read_text(encoding="utf-8"))
            # A pipeline on Argo refers to its stages' templates.
            bare = engine == "argo" and path.stem in (
                "kustomization",
                "visionloop-train",
                "visionloop-retrain",
                "visionloop-measure",
                "visionloop-predict",
            )
            assert bool(images) != bare, path
            assert {(registry.split("'")[-1], tag.strip("'}")) for registry, tag in images} <= {
                ("registry.example.com/vision", "9.8.7")
            }


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"--engine airflow: give one of argo, kfp\."):
        compile_engine("airflow", tmp_path)


def test_the_argo_folder_lists_its_files(files: dict[str, dict[str, str]]) -> None:
    of_trainers = {template_of(stage, trainer) for stage in BY_TRAINER for trainer in cluster().trainers}
    names = {
        f"{name}.yaml"
        for name in (
            *map(template_of, STAGES),
            *of_trainers,
            "visionloop-train",
            "visionloop-retrain",
            "visionloop-measure",
            "visionloop-predict",
        )
    }
    assert set(files["argo"]) == {*names, "kustomization.yaml"}
    assert structures(files["argo"]["kustomization.yaml"])[0]["resources"] == sorted(names)
    for name in names:
        kinds = []
        for document in structures(files["argo"][name]):
            assert document["metadata"]["name"] == name.removesuffix(".yaml")
            kinds.append(document["kind"])
        assert kinds == ["WorkflowTemplate", "CronWorkflow"][: 2 if "retrain" in name else 1]


@pytest.mark.parametrize("engine", clusters())
def test_the_compiled_files_stay_small(engine: str, files: dict[str, dict[str, str]]) -> None:
    for name, text in files[engine].items():
        size = sum(len(json.dumps(document)) for document in structures(text))
        budget = BUDGET[engine] + (len(cluster().trainers) - 1) * BUDGET_OF_A_TRAINER
        assert size <= budget, f"{name} has {size} bytes as JSON, {budget} are its budget"


@pytest.mark.parametrize("engine", clusters())
def test_nothing_is_installed_and_nothing_secret_is_held(engine: str, files: dict[str, dict[str, str]]) -> None:
    for name, text in files[engine].items():
        assert not re.search(r"pip3?\s+install|python3? -m pip|apt-get|curl |wget ", text), name
        assert not CREDENTIAL.search(text), name


def test_the_credential_pattern_finds_credentials() -> None:
    for text in (
        "AKIA" + "A" * 16,
        "https://user:" + "word@host",
        "secret: '" + "a1b2c3d4" * 4 + "'",
        "-----BEGIN RSA PRIVATE KEY",
    ):
        assert CREDENTIAL.search(text)


def test_secrets_are_references_that_may_be_absent(files: dict[str, dict[str, str]]) -> None:
    secret = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|USERNAME|PRESIGNED|(NOTIFY|EVENTS|CALLBACK|DATABASE)_URL")
    assert [name for name in pods.CONFIG_VARIABLES if secret.search(name)] == []
    assert [name for name in pods.SECRET_VARIABLES if not secret.search(name)] == []
    executors = [executor for ir in files["kfp"].values() for executor in Kubeflow(ir).platform.values()]
    assert executors
    for executor in executors:
        for taken in (*executor["secretAsEnv"], *executor["configMapAsEnv"]):
            assert taken["optional"] is True
    for text in files["argo"].values():
        for document in structures(text):
            for template in document.get("spec", {}).get("templates", ()):
                if "container" in template:
                    # The ConfigMap is taken key by key: what nothing reads is not handed on.
                    assert {name for source in template["container"]["envFrom"] for name in source} == {"secretRef"}
                    assert all(source["secretRef"]["optional"] for source in template["container"]["envFrom"])


#: Which Secrets each stage's pods have: those that it reads.
HELD = {
    "snapshot": {"dataset", "results", "registry"},
    "validate": {"dataset", "results"},
    "convert": {"dataset", "results", "registry"},
    "train": {"dataset", "results", "registry", "events"},
    "evaluate": {"dataset", "results", "registry"},
    "export": {"dataset", "results"},
    "register": {"results", "registry"},
    "predict": {"dataset", "results", "registry", "events"},
    "cleanup": {"results", "registry", "notify", "events"},
}

#: What hands on an earlier result in Kubeflow Pipelines reads receipts alone.
SHOWN = {name: {"results"} for name in ("reuse-training", "reuse-evaluation")}


#: What of the ConfigMap which stages read.
READ = {
    "VISIONLOOP_LOG_FORMAT VISIONLOOP_LOG_LEVEL AWS_REGION AWS_DEFAULT_REGION HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY": STAGES,
    "INTERNAL_S3_ENDPOINT S3_ENDPOINT AWS_ENDPOINT_URL_S3 AWS_ENDPOINT_URL": STAGES,
    "EXTERNAL_S3_ENDPOINT EXTERNAL_STORAGE_ENDPOINT": (
        "snapshot",
        "validate",
        "convert",
        "train",
        "evaluate",
        "export",
        "predict",
    ),
    "MLFLOW_TRACKING_URI MLFLOW_REGISTRY_URI CLEARML_API_HOST CLEARML_WEB_HOST CLEARML_FILES_HOST CLEARML_API_HOST_VERIFY_CERT "
    "CLEARML_OFFLINE_MODE": ("snapshot", "convert", "train", "evaluate", "register", "predict", "cleanup"),
    "MODEL_NAME FRAMEWORK EPOCHS BATCH_SIZE LEARNING_RATE IMGSZ CONFIG CONFIG_IMGSZ CONFIG_EPOCHS CONFIG_BATCH CONFIG_LR0 "
    "CONFIG_OPTIMIZER CONFIG_AUGMENT ADVANCED_CONFIG VISIONLOOP_WEIGHTS VISIONLOOP_ALLOW_DOWNLOAD": (
        *("snapshot", "convert", "train"),
    ),
    "DEVICE": ("snapshot", "convert", "train", "evaluate"),
    "DATASET_S3_URI TASK_TYPE": ("snapshot",),
    "MLFLOW_EXPERIMENT_NAME MLFLOW_EXPERIMENT_ID CLEARML_CACHE_DIR": ("train",),
    "OBSERVABILITY_BACKENDS MLFLOW_ENABLED MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL "
    "TENSORBOARD_ENABLED TENSORBOARD_LOG_DIR": ("snapshot", "train"),
    "VISIONLOOP_CACHE_BYTES": ("train", "evaluate", "export"),
    "OMP_NUM_THREADS": ("train", "evaluate", "export", "register", "predict"),
    "VISIONLOOP_NOTIFY_FORMAT VISIONLOOP_RUN_URL": ("cleanup",),
    "CALLBACK_INTERVAL": ("train", "predict", "cleanup"),
}


def test_each_stage_takes_of_the_config_map_what_it_reads(files: dict[str, dict[str, str]]) -> None:
    wanted = {
        stage: {name for names, stages in READ.items() if stage in stages for name in names.split()} for stage in STAGES
    }
    results = {
        template["name"]: config_variables(template)
        for text in files["argo"].values()
        for document in structures(text)
        for template in document.get("spec", {}).get("templates", ())
        if "container" in template
    }
    assert {stage: set(names) for stage, names in results.items()} == wanted
    of_all = set(results["snapshot"]).intersection(*results.values())
    for ir in files["kfp"].values():
        kfp = Kubeflow(ir)
        for stage, tasks in kfp.leaves().items():
            for _, _, task in tasks:
                if stage in STAGES:
                    assert kfp.config_variables(task) == results[stage]
                else:
                    assert set(kfp.config_variables(task)) == of_all


def test_a_row_may_name_further_variables_and_a_third_partys_stage_has_those_of_its_roles() -> None:
    named = pods.config_of("inventory", StagePolicy(variables=("LIBRARY_PATH",)))
    assert {"LIBRARY_PATH", "EXTERNAL_S3_ENDPOINT", "INTERNAL_S3_ENDPOINT", "VISIONLOOP_LOG_LEVEL"} <= set(named)
    assert not {"MLFLOW_TRACKING_URI", "DATASET_S3_URI", "EPOCHS"} & set(named)
    assert "MLFLOW_TRACKING_URI" in pods.config_of("inventory", StagePolicy(secrets=("registry",)))


def test_argos_pods_hold_the_secrets_of_their_stage_alone(files: dict[str, dict[str, str]]) -> None:
    results = {
        template["name"]: {
            entry["secretRef"]["name"] for entry in template["container"]["envFrom"] if "secretRef" in entry
        }
        for text in files["argo"].values()
        for document in structures(text)
        for template in document.get("spec", {}).get("templates", ())
        if "container" in template
    }
    assert results == {stage: {f"visionloop-{role}" for role in roles} for stage, roles in HELD.items()}


def test_kubeflows_pods_hold_the_variables_of_their_stages_secrets_alone(files: dict[str, dict[str, str]]) -> None:
    for ir in files["kfp"].values():
        kfp = Kubeflow(ir)
        for stage, tasks in kfp.leaves().items():
            for _, _, task in tasks:
                _, executor = kfp.executor(task)
                held = {
                    entry["secretName"]: tuple(key["envVar"] for key in entry["keyToEnv"])
                    for entry in executor["secretAsEnv"]
                }
                roles = (HELD | SHOWN)[stage]
                assert held == {f"visionloop-{role}": secrets.variables(role) for role in roles}


def test_registers_pods_alone_have_the_key_that_signs_as_a_file_that_may_be_absent(
    files: dict[str, dict[str, str]],
) -> None:
    name, path = "visionloop-signing", "/signing"
    for text in files["argo"].values():
        for document in structures(text):
            for template in document.get("spec", {}).get("templates", ()):
                if "container" not in template:
                    continue
                held = [volume["secret"] for volume in template["volumes"] if "secret" in volume]
                mounts = [mount for mount in template["container"]["volumeMounts"] if mount["mountPath"] == path]
                stated = {entry["name"]: entry.get("value") for entry in template["container"]["env"]}
                if template["name"] != "register":
                    assert (held, mounts, "VISIONLOOP_SIGNING_FILE" in stated) == ([], [], False), template["name"]
                    continue
                assert held == [{"secretName": name, "optional": True, "defaultMode": 0o440}]
                assert mounts == [{"name": "signing", "mountPath": path, "readOnly": True}]
                assert stated["VISIONLOOP_SIGNING_FILE"] == f"{path}/key.pem"
    for ir in files["kfp"].values():
        kfp = Kubeflow(ir)
        for stage, tasks in kfp.leaves().items():
            for _, _, task in tasks:
                container, executor = kfp.executor(task)
                stated = {entry["name"]: entry["value"] for entry in container["env"]}
                taken = [(entry["secretName"], entry["mountPath"]) for entry in executor.get("secretAsVolume", [])]
                signs = stage == "register"
                assert taken == ([(name, path)] if signs else []), stage
                assert ("VISIONLOOP_SIGNING_FILE" in stated) == signs, stage
                assert all(entry["optional"] for entry in executor.get("secretAsVolume", []))


def test_a_trainers_row_adds_to_what_train_reads_and_an_unknown_role_is_refused() -> None:
    bare = StagePolicy()
    assert list(pods.secrets_of("inventory", bare)) == ["visionloop-dataset", "visionloop-results"]
    assert "visionloop-registry" in pods.secrets_of("train", bare)
    with pytest.raises(
        InvalidConfig, match=r"secrets vault; give some of dataset, results, registry, notify, events\."
    ):
        pods.secrets_of("train", StagePolicy(secrets=("vault",)))


# --- Kubeflow Pipelines ---


@pytest.fixture(
    params=["visionloop-train.yaml", "visionloop-retrain.yaml", "visionloop-measure.yaml", "visionloop-predict.yaml"]
)
def kfp(request: pytest.FixtureRequest, files: dict[str, dict[str, str]]) -> Kubeflow:
    return Kubeflow(files["kfp"][request.param])


def test_every_reference_in_the_ir_names_something_that_is_there(kfp: Kubeflow) -> None:
    """KFP's compiler drops a dsl.OneOf that only a condition reads, and nothing complains before the run does nothing."""
    checked = 0
    for graph, name, task in kfp.tasks():
        siblings = kfp.components[graph]["dag"]["tasks"]
        inputs = kfp.components[graph].get("inputDefinitions", {})
        for kind, output, parent in (
            ("parameters", "taskOutputParameter", "componentInputParameter"),
            ("artifacts", "taskOutputArtifact", "componentInputArtifact"),
        ):
            for value in task.get("inputs", {}).get(kind, {}).values():
                if output in value:
                    producer = siblings[value[output]["producerTask"]]
                    key = "outputParameterKey" if kind == "parameters" else "outputArtifactKey"
                    defined = kfp.components[producer["componentRef"]["name"]]["outputDefinitions"][kind]
                    assert value[output][key] in defined, (graph, name)
                    checked += 1
                elif parent in value:
                    assert value[parent] in inputs[kind], (graph, name)
                    checked += 1
        for read in re.findall(r"parameter_values\['([^']+)'\]", task.get("triggerPolicy", {}).get("condition", "")):
            assert read in task["inputs"]["parameters"], (graph, name)
            checked += 1
        for before in task.get("dependentTasks", ()):
            assert before in siblings, (graph, name)
    assert checked > 50


def test_no_task_uses_the_engines_cache(files: dict[str, dict[str, str]]) -> None:
    tasks = [task for ir in files["kfp"].values() for tasks in Kubeflow(ir).leaves().values() for _, _, task in tasks]
    assert tasks
    assert [task for task in tasks if task["cachingOptions"] != {}] == []
    for text in files["kfp"].values():
        assert "memoize" not in text
    assert [name for name, text in files["argo"].items() if "memoize" in text] == []


def component_functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in [*sorted(ROOT.glob("components/*/component.py")), ROOT / "pipelines/engines/kubeflow/reuse.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                yield path, node


def test_a_component_is_a_signature_a_docstring_and_one_call() -> None:
    results = list(component_functions())
    assert {path.parent.name for path, _ in results} == {*STAGES, "kubeflow"}
    for path, function in results:
        docstring, *body = function.body
        assert ast.get_docstring(function), path
        assert "from __future__" not in path.read_text(encoding="utf-8")
        lines = (body[-1].end_lineno or 0) - (docstring.end_lineno or 0)
        assert 0 < lines < 20, f"{path}: {function.name} has {lines} lines"
        calls = [
            node
            for node in ast.walk(ast.Module(body, []))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"run_stage", "reuse"}
        ]
        assert len(calls) == 1, path
        assert [node for node in body if isinstance(node, ast.If | ast.For | ast.While | ast.Try)] == [], path


def test_every_input_and_output_of_a_component_is_described(kfp: Kubeflow) -> None:
    for stage, tasks in kfp.leaves().items():
        for _, _, task in tasks:
            component = kfp.components[task["componentRef"]["name"]]
            for side in ("inputDefinitions", "outputDefinitions"):
                for kind, entries in component.get(side, {}).items():
                    for name, entry in entries.items():
                        assert entry.get("description"), f"{stage}: {side}.{kind}.{name}"


@pytest.mark.parametrize("kfp", ["visionloop-train.yaml", "visionloop-retrain.yaml"], indirect=True)
def test_artifacts_are_typed(kfp: Kubeflow) -> None:
    results = {
        stage: {
            entry["artifactType"]["schemaTitle"].removeprefix("system.")
            for _, _, task in tasks
            for entry in kfp.components[task["componentRef"]["name"]]
            .get("outputDefinitions", {})
            .get("artifacts", {})
            .values()
        }
        for stage, tasks in kfp.leaves().items()
    }
    assert results == {
        "snapshot": {"Dataset"},
        "validate": {"HTML"},
        "convert": {"Dataset"},
        "train": {"Model", "Metrics"},
        "reuse-training": {"Model", "Metrics"},
        "evaluate": {"Metrics", "ClassificationMetrics", "HTML"},
        "reuse-evaluation": {"Metrics", "ClassificationMetrics", "HTML"},
        "export": {"Model"},
        "register": {"Model", "Markdown"},
        "cleanup": set(),
    }


# --- Argo ---


def test_every_field_written_in_hera_arrives(monkeypatch: pytest.MonkeyPatch, files: dict[str, dict[str, str]]) -> None:
    """Hera's models drop an unknown field in silence: here each refuses one, and the files survive a round trip."""
    original = APIBaseModel.__init__

    def strict(self: Any, **data: Any) -> None:
        existing = {name for name, field in type(self).model_fields.items()}
        existing |= {str(field.alias) for field in type(self).model_fields.values() if field.alias}
        assert set(data) <= existing, f"{type(self).__name__} has no {sorted(set(data) - existing)}"
        original(self, **data)

    monkeypatch.setattr(APIBaseModel, "__init__", strict)
    with pytest.raises(AssertionError, match="Container has no"):
        Container(commandd=["x"])  # type: ignore[call-arg]
    assert argo_files(cluster()) == files["argo"]
    monkeypatch.undo()
    for name, text in files["argo"].items():
        models: dict[str, Any] = {"WorkflowTemplate": WorkflowTemplate, "CronWorkflow": CronWorkflow}
        for document in structures(text):
            if document["kind"] in models:
                read = models[document["kind"]].model_validate(document)
                assert read.model_dump(mode="json", by_alias=True, exclude_none=True) == document, name


def test_a_misspelt_field_does_not_survive_the_round_trip(files: dict[str, dict[str, str]]) -> None:
    (document,) = structures(files["argo"]["visionloop-snapshot.yaml"])
    document["spec"]["templates"][0]["container"]["commandd"] = ["x"]
    assert (
        WorkflowTemplate.model_validate(document).model_dump(mode="json", by_alias=True, exclude_none=True) != document
    )


def test_the_stage_commands_name_options_that_the_stages_have(files: dict[str, dict[str, str]]) -> None:
    from dataclasses import fields

    from visionloop.components.convert.ahead import LOOKS_AHEAD
    from visionloop.core import catalog

    for stage in STAGES:
        (document,) = structures(files["argo"][f"{template_of(stage)}.yaml"])
        (template,) = [item for item in document["spec"]["templates"] if item["name"] == stage]
        words = template["container"]["args"]
        assert words[:2] == ["stage", stage]
        options = {word.split("=", 1)[0] for word in words[2:]}
        arguments = [
            entry for entry in fields(catalog.stage(stage).arguments) if not entry.metadata["argument"].repeated
        ]
        own = {f"--{entry.name.replace('_', '-')}" for entry in arguments}
        extra = {"--ahead"} if stage == LOOKS_AHEAD else set()
        assert options == own | extra | {"--workspace", "--trace-id", "--run", "--outputs"}
        inputs = {item["name"] for item in template["inputs"]["parameters"]}
        read = set(re.findall(r"inputs\.parameters\.(\w+)", json.dumps(template)))
        assert read == inputs, f"{stage}: an input is not used, or not declared"
        for output in template.get("outputs", {}).get("parameters", ()):
            lost = "[]" if output["name"] == "shards" else ""
            assert output["valueFrom"] == {"path": f"/tmp/outputs/{output['name']}", "default": lost}


@pytest.mark.parametrize("pipeline", ["visionloop-train", "visionloop-retrain"])
def test_each_dag_task_gives_its_template_what_it_needs(pipeline: str, files: dict[str, dict[str, str]]) -> None:
    documents = {name: structures(text)[0] for name, text in files["argo"].items() if name != "kustomization.yaml"}
    specification = documents[f"{pipeline}.yaml"]["spec"]
    arguments = {entry["name"] for entry in specification["arguments"]["parameters"]}
    templates = {template["name"]: template for template in specification["templates"]}
    given_somewhere: set[str] = set()
    tasks = [task for template in templates.values() for task in template.get("dag", {}).get("tasks", ())]
    for task in [*tasks, *templates["exit"]["steps"][0]]:
        if "templateRef" in task:
            reference = task["templateRef"]
            other = documents[f"{reference['name']}.yaml"]["spec"]["templates"]
            (template,) = [entry for entry in other if entry["name"] == reference["template"]]
        else:
            template = templates[task["template"]]
        inputs = {entry["name"]: entry for entry in template["inputs"]["parameters"]}
        values = {entry["name"] for entry in task["arguments"]["parameters"]}
        assert values <= set(inputs), task["name"]
        required = {name for name, entry in inputs.items() if "value" not in entry}
        assert required <= values, task["name"]
        read = set(re.findall(r"workflow\.parameters\.(\w+)", json.dumps(task)))
        assert read <= arguments, task["name"]
        given_somewhere |= read
    assert given_somewhere == arguments, "a parameter of the form reaches no stage"


def test_pods_meet_pod_security_restricted(files: dict[str, dict[str, str]]) -> None:
    needed = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    result = 0
    for text in files["argo"].values():
        for document in structures(text):
            for template in document.get("spec", {}).get("templates", ()):
                if "container" not in template:
                    continue
                result += 1
                assert template["container"]["securityContext"] == needed
                assert template["securityContext"]["runAsNonRoot"] is True
                patch = yaml.safe_load(re.sub(r"\{\{=.*?\}\}", "", template["podSpecPatch"]))
                assert patch["enableServiceLinks"] is False
                (init,), wait = patch["initContainers"], patch["containers"][0]
                assert (init["name"], wait["name"]) == ("init", "wait")
                assert init["securityContext"] == wait["securityContext"] == needed
                kinds = {kind for volume in template["volumes"] for kind in volume if kind != "name"}
                assert kinds <= {"emptyDir", "persistentVolumeClaim", "secret"}
                variables = {entry["name"]: entry.get("value") for entry in template["container"]["env"]}
                assert variables["HOME"] == "/tmp"
                assert template["metadata"]["labels"].items() >= pods.labels(template["name"]).items()
    assert result == len(STAGES) + len(BY_TRAINER) * (len(cluster().trainers) - 1)


def test_pods_run_under_the_service_account_of_their_group(files: dict[str, dict[str, str]]) -> None:
    results = {
        template["name"]: template["serviceAccountName"]
        for text in files["argo"].values()
        for document in structures(text)
        for template in document.get("spec", {}).get("templates", ())
        if "container" in template
    }
    data = dict.fromkeys(("snapshot", "validate", "convert", "export", "cleanup"), "visionloop-data")
    training = dict.fromkeys(("train", "evaluate", "predict"), "visionloop-train")
    assert results == {**data, **training, "register": "visionloop-register"}
    accounts = structures((GOLDENS / "base" / "service-accounts.yaml").read_text(encoding="utf-8"))
    assert set(results.values()) <= {document["metadata"]["name"] for document in accounts}


def test_argos_token_is_in_its_own_containers_alone(files: dict[str, dict[str, str]]) -> None:
    """https://argo-workflows.readthedocs.io/en/latest/service-accounts/: the executor's account is mounted into init and wait."""
    for text in files["argo"].values():
        for document in structures(text):
            for template in document.get("spec", {}).get("templates", ()):
                if "container" in template:
                    assert template["automountServiceAccountToken"] is False
                    assert template["executor"] == {"serviceAccountName": "visionloop-executor"}
    base = {
        (entry["kind"], entry["metadata"]["name"]): entry
        for name in ("service-accounts", "roles")
        for entry in structures((GOLDENS / "base" / f"{name}.yaml").read_text(encoding="utf-8"))
    }
    token = base["Secret", "visionloop-executor.service-account-token"]
    assert token["metadata"]["annotations"] == {"kubernetes.io/service-account.name": "visionloop-executor"}
    assert (token["type"], set(token)) == (
        "kubernetes.io/service-account-token",
        {"apiVersion", "kind", "metadata", "type"},
    )
    assert base["RoleBinding", "visionloop-executor"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "visionloop-executor"}
    ]


def argo_binary() -> str | None:
    return os.environ.get("ARGO_BIN") or shutil.which("argo")


#: Read before any test takes the variables away.
ARGO = argo_binary()


@pytest.mark.skipif(ARGO is None, reason="no argo command: set ARGO_BIN or put it on the PATH to lint the templates")
def test_argo_lint_is_clean(files: dict[str, dict[str, str]], tmp_path: Path) -> None:
    for name, text in files["argo"].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [str(ARGO), "lint", "--offline", "--kinds=workflowtemplates,cronworkflows", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first = structures(files["argo"]["visionloop-train.yaml"])[0]
    first["spec"]["templates"][0]["dag"]["tasks"][1]["depends"] = "nobody"
    (tmp_path / "visionloop-train.yaml").write_text(dump(first), encoding="utf-8")
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode != 0
