"""What stands between a KFP component and its stage: arguments, artifacts, errors; and the look ahead."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy_pipeline
from kfp import dsl

from visionloop.components import kubeflow
from visionloop.components.convert import ahead as ahead_of_convert
from visionloop.components.convert.component import convert
from visionloop.components.evaluate.component import evaluate
from visionloop.components.kubeflow import reuse, run_stage
from visionloop.core import catalog, lookup, receipts, runs
from visionloop.core.errors import InvalidConfig
from visionloop.core.running import Invocation
from visionloop.core.runs import FORCE_VARIABLE, RUN_VARIABLE
from visionloop.core.stage import Outcome
from visionloop.core.storage import open_prefix

TOYS = {name: getattr(toy_pipeline, name.upper()) for name in toy_pipeline.ARGUMENTS}


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The toys are the installed stages; returns the log of what computed."""
    monkeypatch.setattr(catalog, "stage", lambda name: TOYS[name])
    log = tmp_path / "log"
    log.touch()
    monkeypatch.setenv("TOY_LOG", str(log))
    return log


@pytest.fixture
def work(tmp_path: Path) -> str:
    return str(tmp_path / "workspace")


class Chain:
    """Runs the stages up to one, each told what its component would be."""

    def __init__(self, workspace: str, run: str = "one") -> None:
        self.workspace, self.run = workspace, run
        self.receipts: dict[str, str] = {}

    def stage(self, name: str, arguments: dict[str, Any], *more: Any, **keywords: Any) -> tuple[Any, ...]:
        values = run_stage(name, self.workspace, self.run, "", arguments, *more, **keywords)
        self.receipts[name] = values[0]
        return values

    def converted(self) -> str:
        self.stage("snapshot", {"dataset": "somewhere", "task": "", "split": None})
        self.stage("validate", {"snapshot": self.receipts["snapshot"]})
        self.stage("convert", {"snapshot": self.receipts["snapshot"], "report": self.receipts["validate"]})
        return self.receipts["convert"]

    def train(self, *settings: str) -> str:
        arguments = {
            "converted": self.receipts["convert"],
            "snapshot": self.receipts["snapshot"],
            "set": list(settings),
        }
        arguments |= {"model_name": "cats", "run_name": "a name for people"}
        self.stage("train", arguments)
        return self.receipts["train"]

    def evaluate(self, gate: str = "") -> str:
        arguments = {"training": self.receipts["train"], "snapshot": self.receipts["snapshot"], "model_name": "cats"}
        self.stage("evaluate", arguments | {"gate": gate})
        return self.receipts["evaluate"]

    def look(self, *ahead: str, forced: tuple[str, ...] = (), run: str = "two") -> dict[str, str]:
        result = catalog.stage("convert")
        outcome = Outcome("convert", receipts.load(self.receipts["convert"], "convert"), True, 0.0)
        assert result.name == ahead_of_convert.LOOKS_AHEAD
        runs.RunRecord(open_prefix(self.workspace, "results"), run).open({}, None)
        return ahead_of_convert.look_ahead(
            outcome, self.receipts["snapshot"], ahead, Invocation(self.workspace, run), forced
        )


def artifact(kind: type[Any], folder: Path, name: str) -> Any:
    return kind(name=name, uri=str(folder / "root" / name), metadata={})


def test_a_component_returns_the_receipt_and_the_scalars_it_names(work: str) -> None:
    receipt, snapshot_id, unknown = run_stage(
        "snapshot", work, "one", "", {"dataset": "here", "task": ""}, (), ("snapshot_id", "nothing")
    )
    assert Path(receipt.removeprefix("file://")).name == "receipt.json"
    assert (snapshot_id, unknown) == ("snap_0123456789ab", "")


def test_an_artifact_holds_the_receipt_and_its_own_uri_stays(work: str, tmp_path: Path) -> None:
    dataset = artifact(dsl.Dataset, tmp_path, "frozen")
    (receipt,) = run_stage("snapshot", work, "one", "", {"dataset": "here"}, (dataset,))
    assert dataset.uri == str(tmp_path / "root" / "frozen")
    assert Path(dataset.path).read_bytes() == Path(receipt.removeprefix("file://")).read_bytes()
    content = json.loads(Path(dataset.path).read_text())
    assert dataset.metadata["receipt"] == receipt
    assert (dataset.metadata["key"], dataset.metadata["digest"]) == (content["key"], content["digest"])
    assert dataset.metadata["snapshot_id"] == "snap_0123456789ab"
    assert Path(dataset.metadata["told_uri"].removeprefix("file://")).exists()
    json.dumps(dataset.metadata)


def test_a_page_metrics_and_a_confusion_matrix_are_shown(work: str, tmp_path: Path) -> None:
    chain = Chain(work)
    chain.converted()
    chain.train()
    page, metrics, matrix = (
        artifact(kind, tmp_path, kind.__name__) for kind in (dsl.HTML, dsl.Metrics, dsl.ClassificationMetrics)
    )
    arguments = {"training": chain.receipts["train"], "snapshot": chain.receipts["snapshot"], "model_name": "cats"}
    for _ in range(2):  # computed, and reused
        assert chain.stage("evaluate", arguments, (page, metrics, matrix), ("verdict",))[1] == "promote"
    assert Path(page.path).read_text() == "<h1>evaluate</h1>"
    assert metrics.metadata == {"receipt": chain.receipts["evaluate"], "mAP50": 0.75}
    shown = matrix.metadata["confusionMatrix"]
    assert [entry["displayName"] for entry in shown["annotationSpecs"]] == ["cat", "dog", "background"]
    # Ours has the predicted classes as rows (two cats taken for dogs: row dog, column cat), KFP's the true ones.
    assert [row["row"] for row in shown["rows"]] == [[5, 2, 0], [1, 6, 1], [0, 1, 0]]


def test_the_confusion_of_whole_images_has_no_background(tmp_path: Path) -> None:
    matrix: Any = artifact(dsl.ClassificationMetrics, tmp_path, "matrix")
    measured = {"classes": ["cat", "dog"], "confusion": [[5, 1], [2, 6]]}
    result: Any = SimpleNamespace(
        receipt=SimpleNamespace(outputs={"confusion": None}), read=lambda name: json.dumps(measured).encode()
    )
    kubeflow._confusion(matrix, result)
    shown = matrix.metadata["confusionMatrix"]
    assert [entry["displayName"] for entry in shown["annotationSpecs"]] == ["cat", "dog"]
    assert [row["row"] for row in shown["rows"]] == [[5, 2], [1, 6]]


@pytest.mark.parametrize("damage", ["an altered matrix", "a folder in the way"])
def test_what_an_engines_page_shows_never_ends_a_stage_that_has_its_receipt(
    work: str, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    chain = Chain(work)
    chain.converted()
    chain.train()
    chain.evaluate()
    matrix, metrics = (artifact(kind, tmp_path, kind.__name__) for kind in (dsl.ClassificationMetrics, dsl.Metrics))
    result = receipts.load(chain.receipts["evaluate"], "evaluate")
    confusion = Path(result.output_uri("confusion").removeprefix("file://"))
    if damage == "a folder in the way":
        Path(matrix.path).mkdir(parents=True)
    else:
        confusion.write_bytes(b"{".ljust(confusion.stat().st_size))
    arguments = {"training": chain.receipts["train"], "snapshot": chain.receipts["snapshot"], "model_name": "cats"}
    assert chain.stage("evaluate", arguments | {"gate": ""}, (matrix, metrics), ("verdict",))[1] == "promote"
    assert (
        "evaluate: the artifact ClassificationMetrics is not complete on the engine's page (" in capfd.readouterr().err
    )
    assert metrics.metadata["mAP50"] == 0.75


def test_what_is_there_is_handed_on_with_its_artifacts(work: str, tmp_path: Path, toys: Path) -> None:
    chain = Chain(work)
    chain.converted()
    receipt = chain.train()
    before = toys.read_text()
    model = artifact(dsl.Model, tmp_path, "model")
    assert reuse("train", receipt, (model,)) == (receipt,)
    assert model.metadata["stage"] == "train"
    assert toys.read_text() == before


def test_handing_on_what_is_gone_ends_with_65(work: str, capsys: pytest.CaptureFixture[str]) -> None:
    missing = f"file://{work}/train/0/receipt.json"
    with pytest.raises(SystemExit) as ended:
        reuse("train", missing)
    assert ended.value.code == 65
    assert missing in capsys.readouterr().err.splitlines()[-1]


def test_a_failure_ends_with_its_code_and_its_sentence_alone(
    work: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAIL", "snapshot")
    with pytest.raises(SystemExit) as ended:
        run_stage("snapshot", work, "one", "", {"dataset": "here"})
    assert ended.value.code == 65
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "annotations.json: images[3] has no file_name; add it."
    assert "Traceback" not in said.err
    assert said.out == ""


def test_a_remaining_attempt_on_a_cluster_ends_at_once_and_on_a_laptop_tries(
    work: str, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAIL", "snapshot")
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            run_stage("snapshot", work, "one", "", {"dataset": "here"})
        assert ended.value.code == 65
    assert toys.read_text().split() == ["snapshot"]
    monkeypatch.setenv(RUN_VARIABLE, "one")
    with pytest.raises(SystemExit):
        run_stage("snapshot", work, "another", "", {"dataset": "here"})
    assert toys.read_text().split() == ["snapshot"] * 2


def test_the_local_runners_name_goes_before_the_engines(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_VARIABLE, "mine")
    run_stage("snapshot", work, "12345", "", {"dataset": "here"})
    assert [path.name for path in Path(work, "runs").iterdir()] == ["mine"]


def test_a_forced_stage_computes_again(work: str, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE_VARIABLE, "snapshot")
    for _ in range(2):
        run_stage("snapshot", work, "one", "", {"dataset": "here"})
    assert toys.read_text().split() == ["snapshot"] * 2


def test_base_image_is_the_policy_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeflow, "version", lambda _: "1.2.3")
    assert kubeflow.base_image("snapshot") == "localhost/visionloop-stage:1.2.3"
    assert kubeflow.base_image("train") == "localhost/visionloop-trainer-ultralytics:1.2.3"


# --- the look ahead ---


def test_nothing_there_means_train_next(work: str) -> None:
    chain = Chain(work)
    chain.converted()
    assert chain.look("model_name=cats", "epochs=3") == {
        "next": "train",
        "training_receipt": "",
        "evaluation_receipt": "",
        "verdict": "",
        "reason": "",
        "evaluation_metrics": "",
    }


def test_the_key_it_looks_for_is_the_stages_own(work: str) -> None:
    chain = Chain(work)
    chain.converted()
    receipt = chain.train("epochs=3")
    assert chain.look("model_name=cats", "", "epochs=3")["training_receipt"] == receipt
    assert chain.look("model_name=cats", "epochs=4")["next"] == "train"
    result = chain.look("model_name=cats", 'settings={"epochs": "3"}')
    assert (result["next"], result["evaluation_receipt"]) == ("evaluate", "")


def test_a_pipeline_compiled_before_settings_was_one_parameter_finds_the_same(work: str) -> None:
    """Its components call ``settings``, and give each setting as a pair of its own."""
    chain = Chain(work)
    chain.converted()
    form = {"epochs": 3, "imgsz": 640, "advanced_config": {"seed": "7"}}
    receipt = chain.train(*kubeflow.settings(form))
    assert chain.look("model_name=cats", "gate=", *kubeflow.settings(form))["training_receipt"] == receipt
    new = kubeflow.look_ahead_arguments({**kubeflow.given_settings(form), "epochs": "3"}, "cats", "")
    settings = json.loads(new[0].removeprefix("settings="))
    assert settings == {"epochs": "3", "advanced_config": {"seed": "7"}}


@pytest.mark.parametrize(("verdict", "left"), [("promote", "register"), ("keep", "register"), ("reject", "nothing")])
def test_an_evaluation_that_is_there_leaves_the_registration(
    verdict: str, left: str, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_VERDICT", verdict)
    chain = Chain(work)
    chain.converted()
    chain.train()
    receipt = chain.evaluate('{"floor": 0.5}')
    result = chain.look("model_name=cats", 'gate={"floor": 0.5}')
    assert (result["next"], result["evaluation_receipt"], result["verdict"]) == (left, receipt, verdict)
    assert chain.look("model_name=cats", "gate=")["next"] == "evaluate"


def test_what_is_found_is_recorded_as_reused_for_its_stage_will_not_start(work: str) -> None:
    chain = Chain(work)
    chain.converted()
    receipt = chain.train()
    chain.look("model_name=cats", run="later")
    record = runs.RunRecord(open_prefix(work, "results"), "later")
    state = record.state("train")
    assert (state.state, state.reused, state.receipt) == ("succeeded", True, receipt)
    assert record.state("evaluate").state == "pending"


def test_a_forced_stage_is_not_found(work: str) -> None:
    chain = Chain(work)
    chain.converted()
    chain.train()
    chain.evaluate()
    assert chain.look("model_name=cats", forced=("train",))["next"] == "train"
    assert chain.look("model_name=cats", forced=("evaluate",))["next"] == "evaluate"
    assert chain.look("model_name=cats", forced=("snapshot",))["next"] == "register"


def test_a_training_whose_outputs_are_gone_is_not_found(work: str) -> None:
    chain = Chain(work)
    chain.converted()
    chain.train()
    next(Path(work, "train").glob("*/*/told.json")).unlink()
    assert chain.look("model_name=cats")["next"] == "train"


def test_a_look_that_fails_is_no_find(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer that only its own image holds, or a defect in somebody's stage: the stage itself tells, in its pod."""
    chain = Chain(work)
    chain.converted()
    chain.train()

    def broken(self: Any, context: Any, arguments: Any) -> Any:
        raise ImportError("no module named torch")

    monkeypatch.setattr(toy_pipeline.ToyStage, "resolve", broken)
    assert chain.look("model_name=cats")["next"] == "train"


def test_looking_up_writes_nothing(work: str) -> None:
    chain = Chain(work)
    chain.converted()
    receipt = chain.train("epochs=3")
    before = sorted(Path(work).rglob("*"))
    invocation = Invocation(work, run="plan")
    arguments: dict[str, Any] = {
        "converted": chain.receipts["convert"],
        "snapshot": chain.receipts["snapshot"],
        "model_name": "cats",
    }
    arguments |= {"set": ["epochs=3"]}
    result = lookup.find("train", arguments, invocation)
    assert result is not None
    assert result.uri == receipt
    assert lookup.find("train", arguments | {"set": []}, invocation) is None
    assert sorted(Path(work).rglob("*")) == before


@pytest.mark.parametrize("pair", ["epochs", "=3"])
def test_a_pair_of_another_form_is_refused(pair: str, work: str) -> None:
    chain = Chain(work)
    chain.converted()
    with pytest.raises(InvalidConfig, match=r"--ahead"):
        chain.look(pair)


@pytest.mark.parametrize("settings", ["[1]", "{", '"epochs=3"', '{"epochs": NaN}', '{"epochs": 1, "epochs": 2}'])
def test_settings_that_are_no_object_are_refused(settings: str, work: str) -> None:
    chain = Chain(work)
    chain.converted()
    with pytest.raises(InvalidConfig, match=r"--settings"):
        chain.look(f"settings={settings}")


def test_a_setting_in_a_pair_and_in_settings_is_refused(work: str) -> None:
    chain = Chain(work)
    chain.converted()
    with pytest.raises(InvalidConfig, match="epochs is given in --set and in --settings"):
        chain.look("epochs=3", 'settings={"epochs": 3}')


def test_a_component_that_looks_ahead_returns_what_it_found(work: str) -> None:
    chain = Chain(work)
    chain.converted()
    receipt = chain.train("epochs=3")
    arguments = {"snapshot": chain.receipts["snapshot"], "report": chain.receipts["validate"]}
    returns = ("next", "training_receipt")
    assert chain.stage("convert", arguments, (), returns, ["model_name=cats", "epochs=3"])[1:] == ("evaluate", receipt)
    assert chain.stage("convert", arguments, (), returns)[1:] == ("", "")


def test_what_a_run_ends_with_is_an_output_of_its_components(work: str, tmp_path: Path) -> None:
    """Computed by evaluate, or found by convert: for a reader who has the engine's word alone."""
    chain = Chain(work)
    chain.converted()
    training = chain.train("epochs=3")
    snapshot = chain.receipts["snapshot"]
    arguments = {"workspace": work, "run": "one", "snapshot": snapshot, "model_name": "cats"}
    kinds = {"report": dsl.HTML, "evaluation_metrics": dsl.Metrics, "confusion_matrix": dsl.ClassificationMetrics}
    artifacts = {name: artifact(kind, tmp_path, name) for name, kind in kinds.items()}
    _, verdict, reason, metrics = evaluate.python_func(**arguments, training=training, **artifacts)
    scalars = receipts.load(chain.evaluate(), "evaluate").receipt.scalars
    assert (verdict, reason, json.loads(metrics)) == ("promote", scalars["reason"], {"mAP50": 0.75})
    result = convert.python_func(
        **arguments,
        report=chain.receipts["validate"],
        converted_dataset=artifact(dsl.Dataset, tmp_path, "converted"),
        look_ahead=True,
        settings={"epochs": "3"},
    )
    assert result[-3:] == (verdict, reason, metrics)
