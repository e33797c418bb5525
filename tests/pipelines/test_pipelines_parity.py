"""Each pipeline's two compiled forms are one: edge by edge, policy by policy, and parameter by parameter."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from compiled import Argo, Kubeflow, Row
from toy_pipeline import TOY_TRAINER
from toy_runs import write_distribution

from visionloop.components.calls import SHARDED, STAGES_OF
from visionloop.components.snapshot.retraining.policy import RetrainingPolicy, parse_policy
from visionloop.core import catalog, secrets
from visionloop.core.errors import InvalidConfig
from visionloop.core.policy import ENGINE_DEADLINE_MARGIN, POLICIES, RUN_DEADLINE_SECONDS, StagePolicy, Toleration
from visionloop.pipelines.engines import engine
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.train import OUTPUTS
from visionloop.pipelines.engines.kubeflow import tasks as kubeflow
from visionloop.pipelines.engines.kubeflow.ir import kfp_files
from visionloop.pipelines.parameters import RETRAIN, TRAIN, form
from visionloop.pipelines.targets import BY_TRAINER, Target, cluster
from visionloop.training.catalog import TRAINERS

pytestmark = pytest.mark.slow

#: The stages of a pipeline that trains.
STAGES = STAGES_OF["train"]

#: Fields that Kubeflow Pipelines has no place for; the compiler says so.
LOST_ON_KFP = {
    "grace_period",
    "priority_class",
    "backoff_longest",
    "memory_factor",
    "memory_most",
    "spot_losses",
    "spot_selector",
    "spot_tolerations",
}

#: The graph: whose outputs, or a condition on them, each stage waits for.
EDGES = {
    ("snapshot", "validate"),
    ("snapshot", "convert"),
    ("validate", "convert"),
    ("snapshot", "train"),
    ("convert", "train"),
    ("snapshot", "evaluate"),
    ("convert", "evaluate"),
    ("train", "evaluate"),
    ("convert", "export"),
    ("evaluate", "export"),
    ("convert", "register"),
    ("evaluate", "register"),
    ("export", "register"),
}

#: The parameters of the pipelines, docs/contract.md.
NAMES = """
    dataset snapshot workspace model_name task split run_name description gate
    trainer model imgsz epochs batch lr0 optimizer augment primary_metric primary_metric_mode advanced_config
    validate_mode on_error storage dataset_format classes where checks shards slices costs approve export
""".split()  # noqa: SIM905 - as the contract lists them

REGISTRY, TAG = "registry.example.com/vision", "1.2.3"


def telling(number: int, **more: Any) -> StagePolicy:
    """A row in which every field has a value that no other row and no default has."""
    row = StagePolicy(
        image=f"image-{number}",
        cpu_request=f"{100 + number}m",
        cpu_limit=f"{200 + number}m",
        memory_request=f"{300 + number}Mi",
        memory_limit=f"{400 + number}Mi",
        memory_factor=3.5 + number,
        memory_most=f"{90_000 + number}Mi",
        gpus=2 + number,
        gpus_most=90 + number,
        timeout=1000 + number,
        attempts=4 + number,
        backoff_first=20 + number,
        backoff_factor=3.0 + number,
        backoff_longest=5000 + number,
        grace_period=60 + number,
        node_selector=((f"zone-{number}", f"near-{number}"), ("pool", f"fast-{number}")),
        tolerations=(Toleration(f"taint-{number}", f"value-{number}", "NoExecute"), Toleration(f"other-{number}")),
        spot_losses=1 + number,
        spot_selector=((f"spot-{number}", f"cheap-{number}"),),
        spot_tolerations=(Toleration(f"spot-{number}"),),
        shared_memory=f"{500 + number}Mi",
        cache_volume=True,
        cache_claim=f"claim-{number}",
        image_pull_policy="Always",
        image_pull_secret=f"pull-{number}",
        priority_class=f"priority-{number}",
        annotations=((f"example.com/note-{number}", f"told-{number}"), ("example.com/kept", f"{number}")),
        secrets=("notify",),
        variables=(f"LIBRARY_{number}", "LIBRARY_PATH"),
    )
    return replace(row, **more)


def expected(row: StagePolicy, image: str, stage: str) -> Row:
    """A row as the compiled forms hold it; a stage's own Secrets stay, whatever another row of it adds."""
    results: Row = {field.name: getattr(row, field.name) for field in fields(row)}
    results["image"] = f"{REGISTRY}/{image}:{TAG}"
    # An engine sees of a limit that grows with the dataset its deadline alone.
    del results["seconds_an_image"]
    results["timeout"] = row.engine_deadline - ENGINE_DEADLINE_MARGIN
    # It limits what a run asks for, which the forms' number is not.
    del results["gpus_most"]
    results["node_selector"] = dict(row.node_selector)
    results["spot_selector"] = dict(row.spot_selector)
    results["annotations"] = dict(row.annotations)
    results["secrets"] = [role for role in secrets.ROLES if role in (*row.secrets, *POLICIES[stage].secrets)]
    results["variables"] = list(dict.fromkeys(row.variables))
    for name in ("tolerations", "spot_tolerations"):
        results[name] = [
            {"key": entry.key, "operator": "Equal", "value": entry.value, "effect": entry.effect}
            if entry.value
            else {"key": entry.key, "operator": "Exists", "effect": entry.effect}
            for entry in getattr(row, name)
        ]
    return results


def compiled(target: Target, name: str = "visionloop-train") -> tuple[Argo, Kubeflow]:
    (text,) = kfp_files(target, [name.removeprefix("visionloop-")]).values()
    return Argo(argo_files(target), name), Kubeflow(text)


@pytest.fixture(scope="module")
def told() -> Target:
    rows = {name: telling(number) for number, name in enumerate(POLICIES)}
    return Target(policies=rows, trainers={"ultralytics": rows["train"]}, registry=REGISTRY, tag=TAG)


@pytest.fixture(scope="module")
def real() -> tuple[Argo, Kubeflow]:
    """The pipelines of what is installed."""
    return compiled(cluster())


@pytest.fixture(scope="module")
def retrain() -> tuple[Argo, Kubeflow]:
    """The retraining pipelines of what is installed."""
    return compiled(cluster(), "visionloop-retrain")


@pytest.fixture(scope="module")
def both(told: Target) -> tuple[Argo, Kubeflow]:
    return compiled(told)


def test_every_field_of_the_telling_row_differs_from_the_default() -> None:
    row, default = telling(0), StagePolicy()
    assert [field.name for field in fields(row) if getattr(row, field.name) == getattr(default, field.name)] == [
        "seconds_an_image"  # is in no compiled form
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_of_a_row_arrives_in_both_compiled_forms(
    stage: str, told: Target, both: tuple[Argo, Kubeflow]
) -> None:
    argo, kfp = both
    row = told.row(stage, "ultralytics")
    wanted = expected(row, told.policies["train"].image if stage in BY_TRAINER else row.image, stage)
    assert set(told.policies["train"].variables) <= set(wanted["variables"]) or stage not in BY_TRAINER
    assert argo.row(stage) == wanted
    if stage in ("train", "evaluate"):
        assert argo.gpus(stage) == row.gpus
    tasks = kfp.leaves()[stage]
    assert tasks
    for _, _, task in tasks:
        assert kfp.row(task) == {name: value for name, value in wanted.items() if name not in LOST_ON_KFP}


def test_a_node_is_kept_while_a_training_runs_on_it(real: tuple[Argo, Kubeflow]) -> None:
    argo, kfp = real
    kept = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    for stage in STAGES:
        wanted = kept if stage in ("train", "evaluate") else {}
        assert argo.row(stage)["annotations"] == wanted
        assert [kfp.row(task)["annotations"] for _, _, task in kfp.leaves()[stage]] == [wanted] * len(
            kfp.leaves()[stage]
        )


@pytest.mark.parametrize("name", ["workflows.argoproj.io/template", "pipelines.kubeflow.org/arguments.parameters"])
@pytest.mark.parametrize("compile_files", [argo_files, kfp_files])
def test_no_row_names_an_annotation_of_an_engines_own(name: str, compile_files: Any, told: Target) -> None:
    rows = dict(told.policies) | {"snapshot": telling(0, annotations=((name, "x"),))}
    with pytest.raises(InvalidConfig, match=f"image-0: annotation {name} is the engine's own; name it otherwise."):
        compile_files(replace(told, policies=rows))


def test_what_kubeflow_pipelines_loses_of_a_row_is_said_aloud(told: Target) -> None:
    said = engine("kfp").unexpressed(told)
    for field, word in {
        "grace_period": "grace period",
        "priority_class": "priority class",
        "backoff_longest": "backoff",
        "memory_factor": "more memory",
        "spot_losses": "spot nodes",
    }.items():
        assert field in LOST_ON_KFP
        assert any(word in sentence for sentence in kubeflow.UNEXPRESSED)
    for name, row in told.policies.items():
        if name != "train":
            assert f"{name}'s priority_class {row.priority_class}" in said
            assert f"{name}'s grace_period {row.grace_period}" in said
    for word in ("run's labels", "pod disruption budget", "fields gpus, spot and trace_id"):
        assert any(word in sentence for sentence in said)
    assert f"train (ultralytics)'s priority_class {told.policies['train'].priority_class}" in said
    assert engine("argo").unexpressed(told) == []


def test_the_longest_backoff_is_mentioned_where_it_cuts_a_wait() -> None:
    assert kubeflow.unexpressed(StagePolicy(attempts=3, backoff_first=8, backoff_longest=10)) == ["backoff_longest 10"]
    assert kubeflow.unexpressed(StagePolicy(attempts=3, backoff_first=5, backoff_longest=10)) == []


def test_a_row_that_loses_nothing_is_not_mentioned() -> None:
    assert kubeflow.unexpressed(StagePolicy()) == []
    assert kubeflow.unexpressed(StagePolicy(attempts=1)) == []


def test_a_row_without_retries_gpu_and_volumes_has_none_of_them_anywhere() -> None:
    bare = StagePolicy(attempts=1)
    target = Target(policies=dict.fromkeys(POLICIES, bare), trainers={"ultralytics": bare})
    argo, kfp = compiled(target)
    for (_, name), template in argo.templates.items():
        if name in STAGES:
            assert "retryStrategy" not in template
            assert "nvidia.com/gpu" not in template["podSpecPatch"]
            signing = ["signing"] if name == "register" else []
            assert [volume["name"] for volume in template["volumes"]] == ["scratch", *signing]
    for stage in STAGES:
        for _, _, task in kfp.leaves()[stage]:
            container, platform = kfp.executor(task)
            assert "retryPolicy" not in task
            assert "accelerator" not in container["resources"]
            assert [mount["volumeName"] for mount in platform["emptyDirMounts"]] == ["scratch"]


@pytest.mark.parametrize(("gpus", "count"), [(None, "1"), (0, "0"), (2, "2")])
def test_a_pod_is_told_how_many_gpus_it_was_given(gpus: int | None, count: str) -> None:
    """A pod that finds none that torch can use is then a sick node, and no training on the CPU."""
    argo, kfp = compiled(cluster(gpus=gpus))
    for stage in STAGES:
        # An evaluation computes on one GPU, however many its training has.
        wanted = {"train": count, "evaluate": min(count, "1")}.get(stage, "0")
        for _, _, task in kfp.leaves()[stage]:
            container, _ = kfp.executor(task)
            assert [entry["value"] for entry in container["env"] if entry["name"] == "VISIONLOOP_POD_GPUS"] == [
                wanted
            ], stage
    for (_, name), template in argo.templates.items():
        if name in STAGES:
            # A run may ask Argo for another number than the row's.
            asked = gpus != 0 and name in ("train", "evaluate")
            results = [
                entry["value"] for entry in template["container"]["env"] if entry["name"] == "VISIONLOOP_POD_GPUS"
            ]
            assert results == ["{{inputs.parameters.gpus}}" if asked else "0"], name


def test_an_evaluation_has_one_gpu_however_many_a_run_asks_argo_for(real: tuple[Argo, Kubeflow]) -> None:
    tasks = real[0].tasks()
    for stage in ("train", "evaluate"):
        asked = {entry["name"]: entry["value"] for entry in tasks[stage]["arguments"]["parameters"]}["gpus"]
        assert ("asInt(workflow.parameters.gpus) > 1 ? '1' :" in asked) == (stage == "evaluate")


def test_the_two_graphs_have_the_same_edges(real: tuple[Argo, Kubeflow]) -> None:
    argo, kfp = real
    assert argo.edges() == kfp.edges()
    assert argo.edges() == EDGES
    assert argo.exit_stage() == kfp.exit_stage() == "cleanup"


def test_the_retraining_graphs_are_the_training_graphs_after_the_decision(retrain: tuple[Argo, Kubeflow]) -> None:
    argo, kfp = retrain
    later = set(STAGES) - {"snapshot", "cleanup"}
    assert argo.edges() == kfp.edges() == EDGES | {("snapshot", stage) for stage in later}
    assert argo.exit_stage() == kfp.exit_stage() == "cleanup"


def test_every_task_after_snapshot_hangs_on_go(retrain: tuple[Argo, Kubeflow]) -> None:
    argo, kfp = retrain
    conditional = {task["name"]: [entry["when"] for entry in around] for task, around in argo.leaves()}
    assert conditional.pop("snapshot") == []
    loops = {f"{stage}-shards" for stage in SHARDED}
    named = {name if name in loops else name.partition("-")[0] for name in conditional}
    assert named == set(STAGES) - {"snapshot", "cleanup"} | loops
    for name, conditions in conditional.items():
        assert conditions == ["{{=tasks['snapshot'].outputs.parameters.go != 'false'}}"], name
    go = "inputs.parameter_values['pipelinechannel--snapshot-go'] != 'false'"
    for stage, tasks in kfp.leaves().items():
        for graph, _, task in tasks:
            assert (go in kfp.conditions(graph, task)) == (stage not in ("snapshot", "cleanup")), stage
    reads = {
        parameter["name"] for parameter in argo.tasks()["snapshot"]["arguments"]["parameters"] if parameter["value"]
    }
    assert {"retraining", "model_name"} <= reads
    ((_, _, snapshot),) = kfp.leaves()["snapshot"]
    assert {"retraining", "model_name"} <= set(snapshot["inputs"]["parameters"])


def test_a_training_hangs_on_no_policy(real: tuple[Argo, Kubeflow]) -> None:
    argo, kfp = real
    assert "retraining" not in {entry["name"] for entry in argo.tasks()["snapshot"]["arguments"]["parameters"]}
    assert {around for _, around in argo.leaves()} == {()}
    ((_, _, snapshot),) = kfp.leaves()["snapshot"]
    assert "retraining" not in snapshot["inputs"]["parameters"]


@pytest.mark.parametrize("pipeline", ["visionloop-train", "visionloop-retrain"])
def test_each_trainer_has_templates_of_its_own_for_what_runs_in_its_image(told: Target, pipeline: str) -> None:
    argo, _ = compiled(replace(told, trainers={**told.trainers, "Toy_2": telling(50)}), pipeline)
    assert BY_TRAINER == ("train", "evaluate", "export", "register", "predict")
    for stage in (stage for stage in BY_TRAINER if stage in STAGES):
        for task, trainer in ((stage, "ultralytics"), (f"{stage}-toy-2", "toy-2")):
            reference = {"name": f"visionloop-{stage}-{trainer}", "template": stage}
            assert argo.tasks()[task]["templateRef"] == reference
    held = {name for template, name in argo.templates if template == pipeline}
    assert held == {"pipeline", "exit", *(["worth-retraining"] if "retrain" in pipeline else [])}


def test_trainers_whose_templates_would_share_a_name_are_refused(told: Target) -> None:
    target = replace(told, trainers={**told.trainers, "toy_2": telling(50), "toy-2": telling(51)})
    with pytest.raises(InvalidConfig, match=r"^The trainers toy_2 and toy-2 would share a template's name on Argo; "):
        argo_files(target)


def test_no_pod_takes_its_image_from_a_parameter(told: Target) -> None:
    """Whoever may start a run would choose what runs with its Secrets."""
    argo, kfp = compiled(replace(told, trainers={**told.trainers, "toy": telling(50)}))
    for (workflow_template, _), template in argo.templates.items():
        assert "image" not in {entry["name"] for entry in template.get("inputs", {}).get("parameters", ())}
        if "container" in template:
            assert template["container"]["image"].startswith(f"{REGISTRY}/image-"), workflow_template
            assert "image" not in template["podSpecPatch"].replace("imagePullSecrets", "")
    for document in argo.documents:
        form = document["spec"].get("arguments", {}) if document["kind"] == "WorkflowTemplate" else {}
        assert "image" not in {entry["name"] for entry in form.get("parameters", ())}
    for tasks in kfp.leaves().values():
        for graph, _, task in tasks:
            images = kfp.images(graph, task)
            assert images
            assert [image for image in images if not image.startswith(f"{REGISTRY}/image-")] == []


@pytest.mark.parametrize("exports", ["", "onnx"])
def test_the_tasks_of_trainers_never_read_the_output_of_one_that_was_skipped(told: Target, exports: str) -> None:
    """Argo replaces the arguments of a skipped task before it looks at its condition."""
    argo, _ = compiled(replace(told, trainers={**told.trainers, "toy": telling(50)}))
    for trainer, suffix in (("ultralytics", ""), ("toy", "-toy")):
        for left in ("train", "evaluate", "register", "nothing"):
            for chosen in ("ultralytics", "toy", "", "unheard-of"):
                mine = chosen == "toy" if suffix else chosen != "toy"
                ran = {"convert": {"next": left, "training_receipt": "old-t", "evaluation_receipt": "old-e"}}
                form = {"trainer": chosen, "export": exports}
                done: dict[str, bool] = {}
                for stage in (stage for stage in BY_TRAINER if stage in STAGES):
                    task = argo.tasks()[f"{stage}{suffix}"]
                    arguments = {entry["name"]: entry["value"] for entry in task["arguments"]["parameters"]}
                    taken = {"evaluate": "training", "export": "evaluation", "register": "evaluation"}.get(stage)
                    value = _evaluated(arguments[taken], ran, form) if taken else None
                    exported = _evaluated(arguments["exports"], ran, form) if stage == "register" else None
                    done[stage] = _evaluated(task["when"], ran, form)
                    if done[stage]:
                        ran[f"{stage}{suffix}"] = {"receipt": f"new-{stage}", "verdict": "promote"}
                    if taken == "training" and done[stage]:
                        assert value == ("new-train" if left == "train" else "old-t")
                    if taken == "evaluation" and done[stage]:
                        assert value == ("old-e" if left == "register" else "new-evaluate")
                    if stage == "register" and done[stage]:
                        assert exported == ("new-export" if exports else "")
                wanted = {
                    "train": mine and left == "train",
                    "evaluate": mine and left in ("train", "evaluate"),
                    "export": mine and left != "nothing" and bool(exports),
                    "register": mine and left != "nothing",
                }
                assert done == wanted, (trainer, left, chosen)


def _evaluated(text: str, ran: dict[str, dict[str, str]], form: dict[str, str]) -> Any:
    """An expression of Argo's, of those that the pipelines use: a KeyError where it reads the output of a task that did not run."""
    source = text.removeprefix("{{=").removesuffix("}}")
    source = re.sub(r"^(.*) \? (.*) : (.*)$", r"(\2) if (\1) else (\3)", source)
    source = source.replace("&&", "and").replace("||", "or")
    source = re.sub(r"workflow\.parameters\.(\w+)", r"form['\1']", source)
    source = re.sub(r"tasks\['([\w-]+)'\]\.outputs\.parameters\.(\w+)", r"ran['\1']['\2']", source)
    return eval(source, {}, {"ran": ran, "form": form})


@pytest.mark.parametrize("trainers", [1, 2])
def test_both_retraining_forms_hold_the_rows(told: Target, trainers: int) -> None:
    more = {"toy": telling(50)} if trainers > 1 else {}
    target = replace(told, trainers={**told.trainers, **more})
    kfp_train, kfp_retrain = compiled(target)[1], compiled(target, "visionloop-retrain")[1]
    for stage in STAGES:
        rows = [
            sorted((kfp.row(task) for _, _, task in kfp.leaves()[stage]), key=str) for kfp in (kfp_train, kfp_retrain)
        ]
        assert rows[0] == rows[1], stage


def test_the_schedule_runs_one_at_a_time_and_waits_for_a_person(retrain: tuple[Argo, Kubeflow]) -> None:
    argo, _ = retrain
    specification = argo.document("CronWorkflow")["spec"]
    assert specification["suspend"] is True
    assert specification["concurrencyPolicy"] == "Forbid"
    assert specification["timezone"] == "Etc/UTC"
    assert specification["startingDeadlineSeconds"] > 0
    assert specification["schedules"] == ["0 3 * * *"]
    assert {specification["successfulJobsHistoryLimit"], specification["failedJobsHistoryLimit"]} == {3}
    workflow = specification["workflowSpec"]
    assert workflow["workflowTemplateRef"] == {"name": "visionloop-retrain"}
    arguments = {entry["name"]: entry["value"] for entry in workflow["arguments"]["parameters"]}
    form = {entry["name"]: entry for entry in argo.pipeline["arguments"]["parameters"]}
    assert {name for name, entry in form.items() if "value" not in entry} <= set(arguments) <= set(form)
    assert parse_policy(arguments["retraining"]) == RetrainingPolicy(
        min_new_images=100, drift_above=0.1, champion_older_than_days=30, max_runs_per_week=2
    )


def test_the_two_graphs_have_the_same_edges_with_a_second_trainer(told: Target) -> None:
    argo, kfp = compiled(replace(told, trainers={**told.trainers, "toy": telling(50)}))
    assert argo.edges() == kfp.edges()


def test_a_second_trainers_row_and_image_reach_both_forms(told: Target) -> None:
    toy = telling(50)
    target = replace(told, trainers={**told.trainers, "toy": toy})
    argo, kfp = compiled(target)
    wanted = expected(toy, toy.image, "train")
    assert argo.row("train", "toy") == wanted
    assert argo.gpus("train-toy") == toy.gpus != argo.gpus("train")
    assert argo.tasks()["train-toy"]["when"].endswith("&& workflow.parameters.trainer == 'toy'}}")
    assert argo.tasks()["train"]["when"].endswith("&& workflow.parameters.trainer != 'toy'}}")
    lost = {name: value for name, value in wanted.items() if name not in LOST_ON_KFP | {"image"}}
    rows = [dict(kfp.row(task)) for _, _, task in kfp.leaves()["train"]]
    assert [{name: value for name, value in row.items() if name != "image"} for row in rows].count(lost) == 1
    both = {f"{REGISTRY}/{row.image}:{TAG}" for row in target.trainers.values()}
    for stage in ("evaluate", "export", "register"):
        assert argo.row(stage, "toy") == expected(target.row(stage, "toy"), toy.image, stage)
        assert toy.variables[0] in argo.row(stage, "toy")["variables"]
        for graph, _, task in kfp.leaves()[stage]:
            assert kfp.images(graph, task) == both
            assert {toy.variables[0], told.trainers["ultralytics"].variables[0]} <= set(kfp.row(task)["variables"])
    trainer = next(entry for entry in argo.pipeline["arguments"]["parameters"] if entry["name"] == "trainer")
    assert trainer["enum"] == ["ultralytics", "toy"]


def test_no_pod_with_a_gpu_starts_where_training_and_evaluation_are_found(real: tuple[Argo, Kubeflow]) -> None:
    argo, kfp = real
    left = "{{=tasks['convert'].outputs.parameters.next"
    assert re.match(re.escape(f"{left} == 'train'") + "( && |}})", argo.tasks()["train"]["when"])
    assert re.match(re.escape(f"{left} in ['train', 'evaluate']") + "( && |}})", argo.tasks()["evaluate"]["when"])
    with_gpu = {
        (graph, stage)
        for stage, tasks in kfp.leaves().items()
        for graph, _, task in tasks
        if "accelerator" in kfp.executor(task)[0]["resources"]
    }
    conditions = {
        entry["componentRef"]["name"]: entry["triggerPolicy"]["condition"]
        for _, _, entry in kfp.tasks()
        if "condition" in entry.get("triggerPolicy", {})
    }
    # In the graph that trainers share it has its own name.
    left = "inputs.parameter_values['pipelinechannel--next']"
    assert {stage for _, stage in with_gpu} == {"train", "evaluate"}
    for graph, stage in with_gpu:
        condition = conditions[graph].replace("--convert-next", "--next")
        assert f"!({left} == 'nothing') && !({left} == 'register')" in condition
        if stage == "train":
            assert condition.endswith(f"!({left} == 'evaluate')")


@pytest.mark.parametrize(("name", "more"), [("visionloop-train", []), ("visionloop-retrain", ["retraining"])])
def test_both_forms_hold_the_parameters_of_the_contract(name: str, more: list[str]) -> None:
    argo, kfp = compiled(cluster(), name)
    forms = kfp.specification["root"]["inputDefinitions"]["parameters"]
    arguments = {item["name"]: item for item in argo.pipeline["arguments"]["parameters"]}
    assert sorted(forms) == sorted([*NAMES, *more])
    assert list(arguments) == [*form([]), *more, "gpus", "spot", "trace_id"]
    kinds = {str: "STRING", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", bool: "BOOLEAN", dict: "STRUCT"}
    for entry, parameter in form(cluster().trainers, RETRAIN if more else TRAIN).items():
        field, argument = forms[entry], arguments[entry]
        assert field["parameterType"] == kinds[parameter.kind]
        assert field["description"] == argument["description"] == parameter.description
        assert argument.get("enum", []) == list(parameter.choices)
        if parameter.default is None:
            assert "defaultValue" not in field
            assert not field.get("isOptional")
            assert "value" not in argument
        else:
            assert field["defaultValue"] == parameter.default
            assert argument["value"] == parameter.text
        for choice in parameter.choices:
            assert choice in parameter.description


def test_every_stage_hands_on_the_same_outputs(real: tuple[Argo, Kubeflow]) -> None:
    """A run whose workspace can't be read ends by them, on either engine."""
    components = real[1].specification["components"]
    components |= compiled(cluster(), "visionloop-predict")[1].specification["components"]
    for stage, outputs in OUTPUTS.items():
        made = components[f"comp-{stage}"].get("outputDefinitions", {}).get("parameters", {})
        assert set(outputs) <= set(made), stage


@pytest.mark.parametrize("name", ["real", "retrain"])
def test_the_whole_run_and_its_leftovers_have_their_limits(name: str, request: pytest.FixtureRequest) -> None:
    specification = request.getfixturevalue(name)[0].pipeline
    assert specification["activeDeadlineSeconds"] == RUN_DEADLINE_SECONDS == 90_000
    assert specification["ttlStrategy"] == {"secondsAfterCompletion": 3600}
    assert specification["podGC"] == {"strategy": "OnPodCompletion", "deleteDelayDuration": "3600s"}


def test_kubeflow_pipelines_goes_on_retrying_for_the_whole_run(real: tuple[Argo, Kubeflow]) -> None:
    """Its backoff_max_duration ends all retrying that long after the first attempt began, so it is not the longest wait."""
    _, kfp = real
    retried = [task["retryPolicy"] for _, _, task in kfp.tasks() if "retryPolicy" in task]
    assert retried
    assert {policy["backoffMaxDuration"] for policy in retried} == {f"{RUN_DEADLINE_SECONDS}s"}


def test_one_training_at_a_time_for_each_model_name(real: tuple[Argo, Kubeflow]) -> None:
    train = real[0].templates["visionloop-train-ultralytics", "train"]
    (mutex,) = train["synchronization"]["mutexes"]
    assert re.fullmatch(r"visionloop-train-\{\{=.*inputs\.parameters\.model_name.*\}\}", mutex["name"])


def test_a_trainer_found_by_its_entry_point_reaches_the_compiled_pipelines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_distribution(tmp_path, {TRAINERS: {"toy": "toy_pipeline:TOY_TRAINER"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    target = cluster(REGISTRY, TAG)
    assert next(iter(target.trainers)) == "ultralytics"
    assert "toy" in target.trainers
    argo, kfp = compiled(target)
    assert argo.row("train", "toy") == expected(TOY_TRAINER.policy, "toy-trainer", "train")
    toys = [kfp.row(task) for _, _, task in kfp.leaves()["train"] if kfp.row(task)["gpus"] == 2]
    assert [entry["timeout"] for entry in toys] == [7200]
    assert {image for graph, _, task in kfp.leaves()["train"] for image in kfp.images(graph, task)} == {
        target.image(row) for row in target.trainers.values()
    }
    form = kfp.specification["root"]["inputDefinitions"]["parameters"]["trainer"]
    assert form["description"] == f"The training library: {' or '.join(target.trainers)}."


def test_a_third_partys_stage_brings_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    original = catalog.stage

    class Other:
        """The snapshot stage with another row, as another distribution's entry would bring it."""

        policy = telling(70, gpus=0)

        def __getattr__(self, name: str) -> Any:
            return getattr(original("snapshot"), name)

    monkeypatch.setattr(catalog, "stage", lambda name: Other() if name == "snapshot" else original(name))
    argo, kfp = compiled(cluster(REGISTRY, TAG))
    wanted = expected(Other.policy, Other.policy.image, "snapshot")
    assert argo.row("snapshot") == wanted
    ((_, _, task),) = kfp.leaves()["snapshot"]
    assert kfp.row(task) == {name: value for name, value in wanted.items() if name not in LOST_ON_KFP}
