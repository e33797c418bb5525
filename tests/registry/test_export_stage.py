"""The stage export, and what register does with it: keys, receipts, refusals, crashes, and the files beside a version."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_detector
from decided import command
from numpy.typing import NDArray
from toy_detector import CLASSES, SIZE, Prepared, ToyTrainer, published, run

from visionloop.components.export import STAGE, child
from visionloop.components.export.formats import Wanted, parse_exports
from visionloop.components.export.result import ExportResult, Speed, read
from visionloop.components.register.exports import FOLDER
from visionloop.core.errors import InvalidConfig, InvalidReceipt, Killed
from visionloop.core.receipts import Result, look
from visionloop.core.runs import RunRecord
from visionloop.core.stage import Outcome
from visionloop.core.storage import open_prefix
from visionloop.pipelines.models.opened import opened
from visionloop.registry import Registry
from visionloop.training.trainers import Exported, Rows

#: What the toy finds in every picture.
FOUND = np.array([[10, 10, 30, 34], [50, 12, 70, 40]], np.float32), np.array([[0.9, 0.0], [0.0, 0.8]], np.float32)


class ExportingTrainer(ToyTrainer):
    """A toy whose model finds the same in every picture; ``error`` is what the confidences of its export are off by."""

    formats = ("onnx",)

    def __init__(self, error: float = 0.0) -> None:
        super().__init__()
        self.error, self.exported = error, 0
        self.located: Callable[[NDArray[Any], tuple[int, int]], NDArray[Any]] | None = lambda boxes, size: boxes

    def export(self, checkpoint: Path, format: str, folder: Path) -> Exported:
        """A graph whose outputs depend on nothing."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        self.exported += 1
        boxes, scores = FOUND
        side = [1, 3, SIZE, SIZE]
        nothing = helper.make_node("ReduceSum", ["images"], ["sum"], keepdims=0)
        none = helper.make_node("Mul", ["sum", "zero"], ["none"])
        nodes = [nothing, none]
        outputs = []
        for name, value in (("boxes", boxes), ("scores", scores - np.float32(self.error))):
            nodes.append(helper.make_node("Add", ["none", f"own_{name}"], [name]))
            outputs.append((name, value))
        graph = helper.make_graph(
            nodes,
            "toy",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, side)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in outputs],
            [
                numpy_helper.from_array(np.array(0, np.float32), "zero"),
                *(numpy_helper.from_array(value, f"own_{name}") for name, value in outputs),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.save(model, str(folder / "model.onnx"))
        located = self.located
        return Exported(folder / "model.onnx", {"size": [SIZE, SIZE]}, _prepared, lambda _: FOUND, _rows, located)


def _prepared(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


def _rows(outputs: Sequence[NDArray[Any]]) -> Rows:
    return Rows(outputs[1], outputs[0])


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ExportingTrainer:
    """The toy, which a process of its own could not import."""
    trainer = ExportingTrainer()
    toy_detector.install(monkeypatch, trainer)
    monkeypatch.setattr(child, "run", _here)
    return trainer


def _here(
    job: child.Job, folder: Path, environment: Mapping[str, str], advanced: Callable[[int, int], None]
) -> tuple[dict[str, Path], ExportResult, Speed]:
    assert not [name for name in environment if name.startswith(("AWS", "S3", "MLFLOW", "INTERNAL"))]
    answer = child.answered(job, folder / "progress")
    if answer.result is None or answer.speed is None:
        raise child.Crashed(answer.problem, again=answer.again)
    return {output: Path(file) for output, file in answer.files.items()}, answer.result, answer.speed


def export(prepared: Prepared, evaluation: Outcome, formats: str = "onnx", **options: Any) -> Outcome:
    arguments = {"evaluation": published(evaluation).uri, "export": formats}
    return run(STAGE, arguments, prepared.workspace, **options)


def ones(prepared: Prepared, exported: Outcome) -> list[Result]:
    """The receipts of the exports of a list."""
    workspace = open_prefix(prepared.workspace, "results")
    found = [look(workspace, "export", each.key) for each in read(published(exported))]
    return [one for one in found if one is not None]


def folder(outcome: Outcome) -> Path:
    """The folder of a registered version."""
    return Path(str(outcome.scalars["storage_uri"]).removeprefix("file://"))


@pytest.mark.usefixtures("mlflow_uri")
def test_an_export_has_key_and_receipt_of_its_own_and_is_made_once(
    prepared: Prepared, toy: ExportingTrainer, name: str
) -> None:
    evaluation = prepared.evaluate(prepared.train(), name)
    first = export(prepared, evaluation, run="night")
    assert first.scalars == {"exports": {"onnx:fp32": "accepted"}}
    (one,) = ones(prepared, first)
    receipt, whole = one.receipt, published(first).receipt
    assert {entry: receipt.parameters[entry].value for entry in ("export", "imgsz", "split", "trainer")} == {
        "export": "onnx:fp32", "imgsz": SIZE, "split": "test", "trainer": "toy",
    }  # fmt: skip
    assert list(receipt.inputs) == list(whole.inputs) == ["training", "snapshot", "converted"]
    assert whole.parameters["exports"].value == ["onnx:fp32"]
    assert {name: output.result for name, output in receipt.outputs.items()} == {"model": True, "export": True}
    assert set(receipt.timings) == {"seconds", "latency_median_seconds", "model_latency_median_seconds"}
    found = json.loads(one.read("export"))
    assert (found["pictures"], found["objects"], found["accepted"]) == (2, 16, True)
    assert found["metric"] == "mAP50-95"
    assert 0 < found["value"] == found["model_value"] < 1
    assert (found["size"], found["sha256"]) == (receipt.outputs["model"].size, receipt.outputs["model"].sha256)
    # The file says what is needed to use it, and neither a version nor a time.
    import onnx

    (entry,) = onnx.load_from_string(one.read("model")).metadata_props
    described = json.loads(entry.value)
    assert described["operating_point"] == dict.fromkeys(CLASSES, 0.25)
    assert described["training_digest"] == whole.inputs["training"].digest
    (state,) = RunRecord(open_prefix(prepared.workspace, "results"), "night").shards()
    assert (state.stage, state.shard, state.state, state.receipt) == ("export", "onnx-fp32", "succeeded", one.uri)

    assert export(prepared, evaluation).reused
    assert toy.exported == 1
    assert not export(prepared, evaluation, force=True).reused
    assert toy.exported == 2
    assert [again.receipt.digest for again in ones(prepared, first)] == [receipt.digest]


@pytest.mark.usefixtures("mlflow_uri", "toy")
def test_register_puts_what_is_accepted_beside_the_version_and_names_it(prepared: Prepared, name: str) -> None:
    evaluation = prepared.evaluate(prepared.train(), name)
    plain = prepared.register(evaluation, name)
    assert list(published(plain).receipt.inputs) == ["evaluation"]
    assert not (folder(plain) / FOLDER).exists()
    assert "## Exports" not in published(plain).read("card").decode()

    exported = export(prepared, evaluation)
    registered = prepared.register(evaluation, name, exports=published(exported).uri)
    assert registered.scalars["version"] == plain.scalars["version"]
    assert published(registered).receipt.key != published(plain).receipt.key
    assert published(registered).receipt.inputs["exports"] == published(exported).reference
    (one,) = ones(prepared, exported)
    there = folder(registered) / FOLDER / "onnx-fp32"
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        "model.onnx": one.read("model"),
        "export.json": one.read("export"),
    }
    card = published(registered).read("card").decode()
    assert "## Exports" in card
    assert "| onnx:fp32 | accepted | mAP50-95 | 0." in card
    assert prepared.register(evaluation, name, exports=published(exported).uri).reused

    # What is there stays, whatever a later run exports.
    (there / "model.onnx").write_bytes(b"in use")
    (there / "export.json").write_bytes(b"{}")
    prepared.register(evaluation, name, exports=published(exported).uri, force=True)
    assert (there / "model.onnx").read_bytes() == b"in use"


@pytest.mark.usefixtures("mlflow_uri", "toy")
def test_for_openvino_both_files_are_made_from_onnx_and_put_beside_the_version(prepared: Prepared, name: str) -> None:
    openvino = pytest.importorskip("openvino")
    evaluation = prepared.evaluate(prepared.train(), name)
    exported = export(prepared, evaluation, "openvino,openvino:fp16")
    assert exported.scalars == {"exports": {"openvino:fp32": "accepted", "openvino:fp16": "accepted"}}
    for one in ones(prepared, exported):
        outputs = one.receipt.outputs
        assert {output: entry.result for output, entry in outputs.items()} == dict.fromkeys(
            ("model", "weights", "export"), True
        )
        found = json.loads(one.read("export"))
        assert found["size"] == outputs["model"].size + outputs["weights"].size
        assert (found["sha256"], found["weights_sha256"]) == (outputs["model"].sha256, outputs["weights"].sha256)
    registered = prepared.register(evaluation, name, exports=published(exported).uri)
    there = folder(registered) / FOLDER / "openvino-fp16"
    assert {path.name for path in there.iterdir()} == {"model.xml", "model.bin", "export.json"}
    model = openvino.Core().read_model(there / "model.xml")
    described = json.loads(model.get_rt_info("visionloop").astype(str))
    assert described["operating_point"] == dict.fromkeys(CLASSES, 0.25)
    assert str(prepared.workspace).removeprefix("file://") not in (there / "model.xml").read_text(encoding="utf-8")


@pytest.mark.usefixtures("mlflow_uri")
def test_what_is_accepted_by_its_metric_is_measured_on_the_labels_of_the_evaluation(
    prepared: Prepared,
    toy: ExportingTrainer,
    name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluation = prepared.evaluate(prepared.train(), name)
    prepared.register(evaluation, name)
    words = ("export", f"{name}@champion", "--format", "onnx:fp16", "--out", tmp_path / "out")
    workspace = Path(prepared.workspace.removeprefix("file://"))

    @contextmanager
    def ended_after(*wanted: str, command: str) -> Iterator[Registry]:
        """As where the embedded store ends with the command: nothing is read from it afterwards."""
        with opened(*wanted, command=command) as registry:
            yield registry
        workspace.rename(tmp_path / "away")

    with monkeypatch.context() as patch:
        patch.setattr("visionloop.pipelines.cli.export.opened", ended_after)
        code, out, sentence = command(capfd, *words)
    assert code == 0, sentence
    (tmp_path / "away").rename(workspace)
    (report,) = json.loads(out)["exports"]
    assert (report["precision"], report["metric"], report["value"]) == ("fp16", "mAP50-95", report["model_value"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{name}-1.onnx"}
    # A run finds it again.
    again = export(prepared, evaluation, "onnx:fp16")
    assert (again.reused, toy.exported) == (True, 1)
    code, _, sentence = command(capfd, *words, "--images", tmp_path)
    assert (code, "--images: onnx:fp16 is accepted by its metric on the labels" in sentence) == (78, True)


@pytest.mark.usefixtures("mlflow_uri")
def test_a_trainer_that_does_not_say_where_its_boxes_lie_is_compared_alone(
    prepared: Prepared, toy: ExportingTrainer, name: str
) -> None:
    toy.located = None
    evaluation = prepared.evaluate(prepared.train(), name)
    exported = export(prepared, evaluation)
    (listed,) = read(published(exported))
    assert (listed.result.accepted, listed.result.metric, listed.result.value) == (True, "", None)
    card = published(prepared.register(evaluation, name, exports=published(exported).uri)).read("card").decode()
    assert "| onnx:fp32 | accepted | not measured |" in card


@pytest.mark.usefixtures("mlflow_uri")
def test_one_that_differs_is_refused_told_and_not_registered(
    prepared: Prepared, toy: ExportingTrainer, name: str
) -> None:
    toy.error = 0.5
    evaluation = prepared.evaluate(prepared.train(), name)
    exported = export(prepared, evaluation)
    reason = "confidences differ by 0.5000 (0.01 at most)"
    assert exported.scalars == {"exports": {"onnx:fp32": f"refused: {reason}"}}
    (one,) = ones(prepared, exported)
    assert list(one.receipt.outputs) == ["export"]
    registered = prepared.register(evaluation, name, exports=published(exported).uri, run="night")
    (notice,) = RunRecord(open_prefix(prepared.workspace, "results"), "night").state("register").notices
    assert notice == f"the export onnx:fp32 is refused and not registered: {reason}."
    assert not (folder(registered) / FOLDER).exists()
    assert "refused: confidences differ by 0.5000" in published(registered).read("card").decode()


@pytest.mark.usefixtures("mlflow_uri", "toy")
def test_a_crash_is_tried_again_and_refused_by_the_last_attempt(
    prepared: Prepared, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = prepared.evaluate(prepared.train(), name)

    def crashes(*_: Any) -> Any:
        raise child.Crashed("SIGSEGV ended it", again=True)

    monkeypatch.setattr(child, "run", crashes)
    for _ in range(STAGE.policy.attempts - 1):
        with pytest.raises(Killed, match=r"^The export onnx:fp32 failed: SIGSEGV ended it; it is tried again\.$"):
            export(prepared, evaluation, run="night")
    exported = export(prepared, evaluation, run="night")
    assert exported.scalars == {"exports": {"onnx:fp32": "refused: the export failed: SIGSEGV ended it"}}
    monkeypatch.setattr(child, "run", pytest.fail)
    assert export(prepared, evaluation, run="later").reused


@pytest.mark.usefixtures("mlflow_uri")
def test_what_fails_for_good_is_refused_at_once(
    prepared: Prepared, toy: ExportingTrainer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = prepared.evaluate(prepared.train(), name)

    def unknown(*_: Any) -> Any:
        raise ValueError("no such operator:\n aten::roll")

    monkeypatch.setattr(toy, "export", unknown)
    exported = export(prepared, evaluation)
    reason = "refused: the export failed: ValueError: no such operator: aten::roll"
    assert exported.scalars == {"exports": {"onnx:fp32": reason}}


@pytest.mark.usefixtures("mlflow_uri")
def test_an_export_that_is_gone_is_made_again(prepared: Prepared, toy: ExportingTrainer, name: str) -> None:
    evaluation = prepared.evaluate(prepared.train(), name)
    exported = export(prepared, evaluation)
    (one,) = ones(prepared, exported)
    Path(one.output_uri("model").removeprefix("file://")).unlink()
    with pytest.raises(
        InvalidReceipt, match=r"the output 'model' is gone; run again: export will be computed again\.$"
    ):
        prepared.register(evaluation, name, exports=published(exported).uri)
    again = export(prepared, evaluation)
    assert not again.reused
    assert toy.exported == 2
    assert published(again).receipt.digest == published(exported).receipt.digest
    assert export(prepared, evaluation).reused
    assert prepared.register(evaluation, name, exports=published(again).uri).scalars["version"] == 1


@pytest.mark.usefixtures("mlflow_uri", "toy")
def test_what_can_not_be_exported_is_told(prepared: Prepared, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = prepared.train()
    evaluation = prepared.evaluate(training, name)
    rejected = prepared.evaluate(prepared.train(offset=5), name, gate='{"floor": 0.99}')
    with pytest.raises(InvalidConfig, match="the evaluation's verdict is reject, and only what may be registered"):
        export(prepared, rejected)
    for formats, part in (
        (",", "'' is not a format of exports; give one of onnx, onnx:fp16, onnx:int8, torchscript, openvino,"),
        ("litert", "--export litert: LiteRT's converter can't be installed beside this version of torch"),
        ("onnx:int4", "onnx is not written in 'int4'; give one of fp32"),
        ("onnx:", "onnx is not written in ''; give one of fp32"),
    ):
        with pytest.raises(InvalidConfig, match=part):
            export(prepared, evaluation, formats)
    monkeypatch.setattr(ExportingTrainer, "formats", ())
    with pytest.raises(InvalidConfig, match="--export onnx: the trainer toy does not write it; its models can't be"):
        export(prepared, evaluation)
    other = prepared.evaluate(prepared.train(offset=1), name)
    monkeypatch.setattr(ExportingTrainer, "formats", ("onnx",))
    with pytest.raises(InvalidReceipt, match="exports of another training"):
        prepared.register(other, name, exports=published(export(prepared, evaluation)).uri)


def test_a_list_names_each_export_once() -> None:
    assert parse_exports("ONNX, onnx:fp32") == (Wanted("onnx", "fp32"),)
    assert parse_exports("onnx:int8,onnx") == (Wanted("onnx", "int8"), Wanted("onnx", "fp32"))
    assert (Wanted("onnx", "int8").fallback, Wanted("onnx", "fp32").fallback) == (Wanted("onnx", "fp32"), None)
    assert Wanted("openvino", "int8").fallback == Wanted("openvino", "fp16")
    assert parse_exports("") == parse_exports(None) == ()


@pytest.mark.usefixtures("mlflow_uri", "toy")
def test_where_eight_bits_are_refused_full_precision_is_made_in_their_place(prepared: Prepared, name: str) -> None:
    evaluation = prepared.evaluate(prepared.train(), name)
    exported = export(prepared, evaluation, "onnx:int8", run="night")
    few = "refused: train has fewer than the 8 images that int8 is calibrated on"
    assert exported.scalars == {"exports": {"onnx:int8": few, "onnx:fp32": "accepted"}}
    eight, full = ones(prepared, exported)
    assert (eight.receipt.parameters["calibration"].value, "model" in eight.receipt.outputs) == (256, False)
    assert eight.receipt.parameters["tolerance"].value == {"metric": 0.02}
    assert "calibration" not in full.receipt.parameters
    # What is asked for as well is made once, and is that of a run without eight bits.
    both = export(prepared, evaluation, "onnx:int8,onnx")
    assert list(both.scalars["exports"]) == ["onnx:int8", "onnx:fp32"]
    assert ones(prepared, export(prepared, evaluation, "onnx"))[0].receipt.key == full.receipt.key


# The process of its own


def job(trainer: str, folder: Path, checkpoint: Path | None = None) -> child.Job:
    from untrained import photograph

    described = child.Described(
        task="classification",
        classes=["dim", "bright"],
        keypoints=[],
        training_digest="0" * 64,
        checkpoint_sha256="0" * 64,
        operating_point={},
    )
    (folder / "out").mkdir()
    return child.Job(
        trainer=trainer,
        checkpoint=str(checkpoint or folder / "none"),
        format="onnx",
        precision="fp32",
        described=described,
        pictures=[str(photograph(folder / "a.png"))],
        folder=str(folder / "out"),
    )


def told(trainer: str, folder: Path, **options: Any) -> child.Crashed:
    """Why there is no export."""
    with pytest.raises(child.Crashed) as crash:
        child.run(job(trainer, folder), folder, {}, lambda done, total: None, **options)
    return crash.value


@pytest.mark.slow
def test_a_real_model_is_exported_in_a_process_of_its_own(tmp_path: Path) -> None:
    import os

    from untrained import checkpoint

    from visionloop.training.environment import child_environment

    done: list[tuple[int, int]] = []
    variables = child_environment(os.environ) | {"CUDA_VISIBLE_DEVICES": ""}
    asked = job("timm", tmp_path, checkpoint("timm", "classification", tmp_path))
    files, result, speed = child.run(asked, tmp_path, variables, lambda *progress: done.append(progress))
    assert result.accepted
    assert (result.pictures, result.size) == (1, files["model"].stat().st_size)
    assert speed.latency_ms > 0
    assert {total for _, total in done} == {1}


def test_an_error_of_the_process_is_told(tmp_path: Path) -> None:
    crash = told("nobody's", tmp_path)
    assert str(crash).startswith("There is no trainer 'nobody's'; there are ")
    assert not crash.again


@pytest.mark.parametrize(
    ("program", "why", "again"),
    [
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL ended it, mostly for want of memory", True),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV ended it, a crash of a library", True),
        ("raise SystemExit(3)", "its process ended with code 3 and said nothing", False),
    ],
)
def test_a_process_that_dies_is_told(
    program: str, why: str, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "START", program)
    crash = told("timm", tmp_path)
    assert (str(crash), crash.again) == (why, again)


def test_a_process_without_progress_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "START", "import time; time.sleep(600)")
    monkeypatch.setattr(child, "TICK_SECONDS", 0.01)
    seconds = iter(range(0, 10**6, 700))
    crash = told("timm", tmp_path, clock=lambda: float(next(seconds)))
    assert str(crash) == "it made no progress for 20 minutes"
    assert not crash.again
