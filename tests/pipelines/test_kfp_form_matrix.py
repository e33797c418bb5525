"""What a form can send: each field at its edges, in pairs, from the form to a resolved training or a sentence (78).

The values go the way that they go on an engine: through KFP's own executor into the component, or as texts through the
Argo template's command, and then through the stages' own ``resolve``, with a real dataset.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from compiled import Argo
from kfp.dsl.executor import Executor
from test_pipelines_argo_commands import substitute

from visionloop.components import kubeflow
from visionloop.components.evaluate.component import evaluate
from visionloop.components.evaluate.costs import parse_costs
from visionloop.components.evaluate.gate import resolve_gate
from visionloop.components.evaluate.slicing import parse_slices
from visionloop.components.export.formats import parse_exports
from visionloop.components.snapshot.component import snapshot
from visionloop.components.train.component import train
from visionloop.core import catalog, names
from visionloop.core.errors import InvalidConfig, VisionloopError
from visionloop.core.limits import Limits
from visionloop.core.running import Invocation, _Session, make_arguments, run_stage
from visionloop.core.stage import Context, Outcome
from visionloop.pipelines import sample
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.train import template_of
from visionloop.pipelines.parameters import RETRAIN
from visionloop.pipelines.targets import cluster
from visionloop.training.configuration.settings import BASIC

pytestmark = pytest.mark.slow

#: What stands for a value that only a run knows.
DATASET, SNAPSHOT, WEIGHTS, GATE = "<dataset>", "<snapshot>", "<weights>", "<gate>"
WORKSPACE, WORKSPACE_URI, ODD_WORKSPACE = "<workspace>", "<workspace uri>", "<odd workspace>"
POLICY, POLICY_URI = "<policy>", "<policy uri>"


@dataclass(frozen=True)
class Edge:
    """One value of a field as the form sends it. ``resolved`` is what a setting becomes, ``bad`` what must be refused.

    ``sent`` may be several parameters' values where they only mean something together.
    """

    sent: Any
    resolved: Any = None
    bad: bool = False

    def __repr__(self) -> str:
        return f"{'bad ' if self.bad else ''}{self.sent!r}"[:60]


def good(*values: Any) -> list[Edge]:
    """Values that resolve to themselves."""
    return [Edge(value, value) for value in values]


def bad(*values: Any) -> list[Edge]:
    return [Edge(value, bad=True) for value in values]


def default(name: str, *spellings: Any) -> list[Edge]:
    """Values that a form sends for a field that nobody touched."""
    return [Edge(value, RETRAIN[name].default) for value in (RETRAIN[name].default, *spellings)]


def source(
    dataset: str = "",
    snapshot: str = "",
    split: str = "",
    dataset_format: str = "",
    classes: str = "",
    where: str = "",
    *,
    bad: bool = False,
) -> Edge:
    fields = {"dataset": dataset, "snapshot": snapshot, "split": split, "dataset_format": dataset_format}
    return Edge(fields | {"classes": classes, "where": where}, bad=bad)


LONG = "x" * 5000
ODD = "a = b, \"c\" 'd' \\ {e} 이름 ✓\n second line"

#: Every field of a retraining policy at once.
WHOLE_POLICY = (
    '{"min_new_images": 1, "drift_above": 0, "champion_older_than_days": 0.5, "max_runs_per_week": 7, '
    '"max_gpu_hours_per_month": 1e3}'
)

FIELDS: dict[str, list[Edge]] = {
    "workspace": [
        *(Edge(text) for text in (WORKSPACE, f"{WORKSPACE}/", WORKSPACE_URI, ODD_WORKSPACE)),
        *bad("", "ftp://results", "s3:/results", "s3://", "s3://two words/x", "file://host/results", "a\nb"),
    ],
    "source": [
        source(DATASET),
        source(f"{DATASET}/"),
        source(snapshot=SNAPSHOT),
        source(DATASET, split="train=0.8,val=0.1,test=0.1"),
        source(DATASET, split=" train = 0.5 , val=0.25,test=0.25,seed=7 "),
        source(DATASET, dataset_format="dice"),
        source(DATASET, where="open('x')", bad=True),
        source(
            DATASET,
            classes='{"keep": ["one", "seven"], "rename": {"seven": "이름 {x}"}}',
            where="split != 'none' and\n class_name in ('one', \"seven\")",
        ),
        source(DATASET, classes='{"kept": ["1"]}', bad=True),
        source(snapshot=SNAPSHOT, classes='{"drop": ["1"]}', bad=True),
        source(snapshot=SNAPSHOT, where="width > 1", bad=True),
        source(DATASET, dataset_format="pascal", bad=True),
        source(snapshot=SNAPSHOT, dataset_format="dice", bad=True),
        source(bad=True),
        source(DATASET, SNAPSHOT, bad=True),
        source("s3:/datasets/digits", bad=True),
        source("ftp://datasets/digits", bad=True),
        source("s3://data sets/digits", bad=True),
        source(snapshot="snap_000000000000", bad=True),
        source(snapshot="../../runs", bad=True),
        source(snapshot=SNAPSHOT, split="train=1", bad=True),
        source(DATASET, split="train=0.8,val=0.1", bad=True),
        source(DATASET, split="0.8,0.1,0.1", bad=True),
        source(DATASET, split="train=nan,val=0,test=0", bad=True),
        source(DATASET, split="{}", bad=True),
    ],
    "task": [*(Edge(text) for text in ("", "detection", "Object-Detection")), *bad("pose", "cats", " ", "0")],
    "model_name": [
        *(Edge(text) for text in ("digits", "Digits 2", "a" * 5000, "모델 A", "7")),
        *bad("", "   ", "모델", "-/-"),
    ],
    "run_name": [Edge(text) for text in ("", "monday", LONG, ODD)],
    "description": [Edge(text) for text in ("", LONG, ODD, "--set epochs=1")],
    "gate": [
        *(Edge(text) for text in ("", "{}", '{"floor": 0.5, "epsilon": 0}', '{"floor": 1e0}', GATE)),
        *bad("{", "[]", "0.5", '{"floor": "high"}', '{"flor": 0.5}', '{"epsilon": -1}', "file:///nowhere/gate.json"),
    ],
    # validate and register refuse what is wrong of these.
    "validate_mode": [*(Edge(text) for text in ("", "headers", "full"))],
    "on_error": [*(Edge(text) for text in ("", "fail", "quarantine"))],
    "checks": [
        *(Edge(text) for text in ("", "{}", '{"same_bytes": "warning", "close_boxes": {"threshold": 0.8}}')),
    ],
    "shards": [*(Edge(text) for text in ("", "1", "8", "100")), *bad("0", "-8", "8.0", "four", "1e9", "101", " 8")],
    "slices": [
        *(Edge(text) for text in ("", "size", "metadata.source", "size, attributes.occluded,metadata.a b")),
        *bad("source", "metadata.", "attributes.labeled_by"),
    ],
    "costs": [
        *(Edge(text) for text in ("", "{}", '{"miss": 5}', '{"miss": 2.5, "false_alarm": 0, "one": {"miss": 1e2}}')),
        *bad("{", "[]", "5", '{"miss": -1}', '{"miss": "many"}', '{"misses": 1}', "file:///nowhere/costs.json"),
    ],
    "approve": [*(Edge(text) for text in ("", "auto", "manual"))],
    "export": [
        *(Edge(text) for text in ("", "onnx", "onnx:fp32", "ONNX, onnx:fp32")),
        *bad(" ", ",", "onnx,", "onnx:", "onnx:int4", "tflite", "coreml", "onnx fp32"),
    ],
    "storage": [*(Edge(text) for text in ("", WORKSPACE, WORKSPACE_URI))],
    "retraining": [
        *(Edge(text) for text in ("", "{}", WHOLE_POLICY, "min_new_images: 50", POLICY, POLICY_URI)),
        *bad(
            "{",
            "[]",
            "5",
            '{"new_images": 3}',
            '{"min_new_images": 0}',
            '{"min_new_images": 1.5}',
            '{"drift_above": 2}',
        ),
        *bad('{"champion_older_than_days": -1}', '{"max_runs_per_week": "two"}', '{"max_gpu_hours_per_month": -0.5}'),
        *bad("file:///nowhere/retraining.json", "ftp://x/y.json"),
    ],
    "trainer": [*default("trainer", ""), *bad("keras", " ", "ultralytics,")],
    "model": [
        *default("model", ""),
        *good("yolo11n.yaml"),
        Edge(WEIGHTS, WEIGHTS),
        *bad(" ", "no-such-model", "yolo11n-seg", "models:/nobody@champion", "file:///nowhere/best.pt", "ftp://x/y.pt"),
    ],
    "imgsz": [*default("imgsz", 640.0, ""), *good(32, 8192.0), *bad(0, -32, 31.0, 100, 640.5, 8224, 1e300, "wide")],
    "epochs": [*default("epochs", 100.0, ""), *good(1.0, 100_000), *bad(0.0, -1, 1.5, 100_001, 1e300, "many")],
    "batch": [*default("batch", 16.0, ""), *good(1, 65_536.0), *bad(0, -1.0, 2.5, 65_537, "auto")],
    "lr0": [*default("lr0", ""), *good(1e-9, 1, 1.0, 0.02), *bad(0, -0.1, 1.1, 10, 1e300, "fast")],
    "optimizer": [*default("optimizer", ""), *good("AdamW"), Edge("adamw", "AdamW"), *bad(" ", "Sgdd", "SGD,", LONG)],
    "augment": [*default("augment", ""), Edge(False, False), Edge("false", False), *bad(2, "perhaps")],
    "primary_metric": [*default("primary_metric", ""), *good("mAP50"), *bad(" ", "accuracy", "mAP50,")],
    "primary_metric_mode": [*default("primary_metric_mode", ""), *good("min"), *bad("up", " ")],
    "advanced_config": [
        Edge({}, {}),
        Edge("", {}),
        Edge({"patience": 7.0, "mosaic": 0.0}, {"patience": 7, "mosaic": 0.0}),
        Edge('{"patience": 7}', {"patience": 7}),
        Edge({"patience": None, "workers": 0.0, "nms": 0.6}, {"patience": 0, "workers": 0, "iou": 0.6}),
        *bad(
            {"patience": -1},
            {"patiense": 7},
            {"mosaic": {"a": 1}},
            {"mosaic": [1]},
            {"seed": 0.5},
            "{",
            "[1]",
            [1],
            {"": 1},
        ),
    ],
}

#: Sent at once with others they may be right or wrong, by what the others are: no sentence is expected, but no other end either.
MIXED: dict[str, list[Edge]] = {
    "optimizer": [Edge("auto"), Edge("Adam")],
    "augment": [Edge(1.0), Edge("True"), Edge(0)],
    "primary_metric": [Edge("box_loss"), Edge("loss")],
    "imgsz": [Edge("640"), Edge("640.0"), Edge(" 64 "), Edge(True)],
    "epochs": [Edge("100.0"), Edge("1e2"), Edge("０"), Edge(True)],
    "lr0": [Edge("0.01"), Edge("1e-2"), Edge("-0"), Edge("NaN"), Edge("Infinity")],
    "advanced_config": [
        Edge({"epochs": 5}),
        Edge({"imgsz": "64", "lr0": 0.01}),
        Edge({"model": "yolo11n", "trainer": "keras"}),
        Edge({"augment": False, "mosaic": 1.0}),
        Edge({"multi_scale": False, "device": 0.0, "cache": "ram"}),
        Edge({"pretrained": False}),
        Edge({"primary_metric_mode": "min", "optimizer": "auto"}),
        Edge({"advanced_config": {}}),
        Edge("null"),
        Edge('"text"'),
    ],
    "source": [source(" "), source("s3://"), source("\x00"), source(DATASET, split=" ")],
    "gate": [
        Edge(" "),
        Edge("null"),
        Edge('{"primary_metric": ""}'),
        Edge("s3://"),
        Edge("\x00"),
        Edge('{"floor": 1e400}'),
    ],
    "retraining": [Edge(" "), Edge("null"), Edge("s3://"), Edge("\x00"), Edge(ODD), Edge('{"drift_above": 1e400}')],
    "model": [Edge("/"), Edge("."), Edge("\x00"), Edge("s3://"), Edge("models:/"), Edge("models:/a/b/c")],
}


@functools.cache
def _rows(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """For fields with so many values each, rows of value numbers in which each pair of two fields' values stands together."""
    count = len(sizes)
    left = {
        (entry, a, other, b)
        for entry, other in itertools.combinations(range(count), 2)
        for a in range(sizes[entry])
        for b in range(sizes[other])
    }
    results = []
    while left:
        entry, a, other, b = min(left)
        row = {entry: a, other: b}
        for field in range(count):
            if field not in row:
                gains = [
                    sum(
                        ((field, value, *chosen) if field < chosen[0] else (*chosen, field, value)) in left
                        for chosen in row.items()
                    )
                    for value in range(sizes[field])
                ]
                row[field] = gains.index(max(gains))
        left -= {(x, row[x], y, row[y]) for x, y in itertools.combinations(range(count), 2)}
        results.append(tuple(row[field] for field in range(count)))
    return results


def pairwise(table: Mapping[str, Sequence[Edge]]) -> Iterator[dict[str, Edge]]:
    """Rows in which each pair of values of two fields stands together at least once; the same rows each time."""
    for row in _rows(tuple(map(len, table.values()))):
        yield {name: edges[number] for (name, edges), number in zip(table.items(), row, strict=True)}


GOOD = {name: [edge for edge in edges if not edge.bad] for name, edges in FIELDS.items()}
ODDITIES = {name: [*edges, *MIXED.get(name, [])] for name, edges in GOOD.items()}
BAD = {name: [edge for edge in edges if edge.bad] for name, edges in FIELDS.items()}


class Form:
    """A form on an engine, and what the stages make of what it sends."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspace"

        def put(key: str, data: bytes) -> None:
            path = folder / "dataset" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        sample.write(put, train=6, val=2, test=2)
        weights = folder / "weights" / "yolo11n.pt"
        weights.parent.mkdir()
        weights.write_bytes(b"weights")
        gate = folder / "gate.json"
        gate.write_text('{"floor": 0.25}')
        policy = folder / "정책 = {1} ✓.yaml"
        policy.write_text("min_new_images: 50\nmax_runs_per_week: 2\n")
        odd = folder / 'results, "here" = {1} 이름 ✓ #?'
        odd.symlink_to(self.workspace)
        self.weights = weights.parent
        frozen = self._run("snapshot", {"dataset": str(folder / "dataset")})
        checked = self._run("validate", {"snapshot": frozen.uri})
        converted = self._run("convert", {"snapshot": frozen.uri, "report": checked.uri})
        self.inputs = {"snapshot": frozen.uri, "converted": converted.uri}
        self.values = {DATASET: str(folder / "dataset"), SNAPSHOT: frozen.receipt.scalars["snapshot_id"]}
        self.values |= {WEIGHTS: str(weights), GATE: gate.as_uri()}
        self.values |= {WORKSPACE: str(self.workspace), WORKSPACE_URI: self.workspace.as_uri(), ODD_WORKSPACE: str(odd)}
        self.values |= {POLICY: str(policy), POLICY_URI: policy.as_uri()}
        self.argo = Argo(argo_files(cluster()), "visionloop-retrain")

    def _run(self, stage: str, arguments: Mapping[str, Any]) -> Any:
        outcome = run_stage(catalog.stage(stage), arguments, Invocation(str(self.workspace), run="prepared"))
        assert outcome.result is not None
        return outcome.result

    def sent(self, row: Mapping[str, Edge]) -> dict[str, Any]:
        """The pipeline's parameters."""
        results: dict[str, Any] = {}
        for name, edge in row.items():
            results |= edge.sent if name == "source" else {name: edge.sent}
        return {name: self.filled(value) for name, value in results.items()}

    def filled(self, value: Any) -> Any:
        """A value with what only a run knows put in."""
        if isinstance(value, str):
            for mark, real in self.values.items():
                value = value.replace(mark, real)
        return value

    def resolve(self, received: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The settings of the training that the stages resolve what they are told to. Raises VisionloopError."""
        self._stage("snapshot", received["snapshot"])
        names.sanitise(received["evaluate"]["model_name"])
        config = self._stage("train", received["train"]).loaded.config
        parse_slices(received["evaluate"]["slices"])
        if received["evaluate"]["costs"]:
            parse_costs(received["evaluate"]["costs"])
        parse_exports(received["snapshot"]["export"])
        resolve_gate(
            received["evaluate"]["gate"] or None, config.values["primary_metric"], config.values["primary_metric_mode"]
        )
        return dict(config.values)

    def _stage(self, name: str, arguments: Mapping[str, Any]) -> Any:
        stage, own = catalog.stage(name), {key: value for key, value in arguments.items() if key != "workspace"}
        session = _Session(stage, Invocation(arguments["workspace"], run="form"))
        session.begin(own)
        limits = Limits(name, 60, 0)
        context = Context(session.workspace, session.record, "", limits, stage.policy, planning=True)
        return stage.resolve(context, make_arguments(stage, own))


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Form]:
    with pytest.MonkeyPatch.context() as patch:
        # Each look into the installed packages' metadata takes longer than all else that a row asks for.
        patch.setattr(catalog, "entry_points", functools.cache(catalog.entry_points))
        yield Form(tmp_path_factory.mktemp("form"))


@pytest.fixture(autouse=True)
def stores(form: Form, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that are there, and a registry without a model: a policy asks it for the champion."""
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(form.weights))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")


@pytest.fixture
def kfp(form: Form, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Mapping[str, Any]], Any]:
    """What the stages are told by their components, which KFP's own executor calls with the form's values."""
    arguments: dict[str, Mapping[str, Any]] = {}

    def stop_here(stage: Any, received: Mapping[str, Any], invocation: Invocation) -> Outcome:
        arguments[stage.name] = {**received, "workspace": invocation.workspace}
        return Outcome(stage.name, None, False, 0.0)

    monkeypatch.setattr(kubeflow, "run_to_receipt", stop_here)

    def tell(sent: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        settings: dict[str, Any] = {}
        for component in (snapshot, train, evaluate):
            inputs = component.component_spec.inputs
            existing = {**sent, **form.inputs, "training": "x", "settings": settings}
            values = {name: value for name, value in existing.items() if name in inputs}
            if component is snapshot:
                values["snapshot"] = sent["snapshot"]
            outputs = {
                name: {
                    "artifacts": [
                        {"name": name, "type": {"schemaTitle": entry.type.split("@")[0]}, "uri": f"{tmp_path}/{name}"}
                    ]
                }
                for name, entry in component.component_spec.outputs.items()
                if entry.type.startswith("system.")
            }
            executor_input = {
                "inputs": {"parameterValues": json.loads(json.dumps(values))},
                "outputs": {"artifacts": outputs, "outputFile": str(tmp_path / "output.json")},
            }
            Executor(executor_input, component).execute()
            if component is snapshot:
                written = json.loads((tmp_path / "output.json").read_text())
                settings = written["parameterValues"]["settings"]
        return dict(arguments)

    return tell


@pytest.fixture
def argo(form: Form) -> Callable[[Mapping[str, Any]], Any]:
    """What the stages are told by the templates' commands, which hold the form's values as texts."""

    def tell(sent: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        values = {f"workflow.parameters.{name}": _text(value) for name, value in sent.items()}
        for entry in form.argo.pipeline["arguments"]["parameters"]:
            values.setdefault(f"workflow.parameters.{entry['name']}", entry.get("value") or "")
        receipts = {"snapshot": form.inputs["snapshot"], "convert": form.inputs["converted"]}
        content: dict[str, dict[str, Any]] = {}
        for name in ("snapshot", "train", "evaluate"):
            words = form.argo.templates[template_of(name), name]["container"]["args"]
            task = form.argo.tasks()[name]
            inputs = {entry["name"]: entry["value"] for entry in task["arguments"]["parameters"]}
            if "settings" in inputs:
                inputs["settings"] = substitute(inputs["settings"], lambda asked: values[asked])
            inputs |= {
                stage: receipts[of]
                for stage, of in (("snapshot", "snapshot"), ("converted", "convert"))
                if name != "snapshot" and stage in inputs
            }
            inputs |= {"training": "x"} if "training" in inputs else {}

            def look(asked: str, inputs: Mapping[str, str] = inputs) -> str:
                kind, _, parameter = asked.rpartition(".")
                if kind == "inputs.parameters":
                    value = inputs.get(parameter, "")
                    return values.get(value.strip("{}"), value)
                return values.get(asked, "")

            content[name] = _options(name, [substitute(word, look) for word in words])
        return content

    return tell


def _text(value: Any) -> str:
    """A value as Argo holds it."""
    return value if isinstance(value, str) else json.dumps(value)


def _options(stage: str, words: Sequence[str]) -> dict[str, Any]:
    """The stage's own arguments among the words of a command, all of which are ``--NAME=VALUE``."""
    arguments: dict[str, Any] = {}
    own = {entry.name: entry.metadata["argument"].repeated for entry in fields(catalog.stage(stage).arguments)}
    own["workspace"] = False
    for word in words:
        option, _, value = word.removeprefix("--").partition("=")
        name = option.replace("-", "_")
        if word.startswith("--") and name in own:
            if own[name]:
                arguments.setdefault(name, []).append(value)
            else:
                arguments[name] = value
    return arguments


@pytest.fixture(params=["kfp", "argo"])
def tell(request: pytest.FixtureRequest) -> Callable[[Mapping[str, Any]], Any]:
    """The two engines' forms."""
    result: Callable[[Mapping[str, Any]], Any] = request.getfixturevalue(request.param)
    return result


def wanted(row: Mapping[str, Edge], form: Form) -> dict[str, Any]:
    """The settings that a row of good values stands for."""
    results = {name: form.filled(edge.resolved) for name, edge in row.items() if name in BASIC}
    return results | row["advanced_config"].resolved


def test_every_field_of_the_form_is_in_the_matrix() -> None:
    received = (set(FIELDS) - {"source"}) | {"dataset", "snapshot", "split", "dataset_format", "classes", "where"}
    assert received == set(RETRAIN)


def test_each_pair_of_values_stands_in_a_row() -> None:
    rows = list(pairwise(GOOD))
    for entry, other in itertools.combinations(GOOD, 2):
        seen = {(id(row[entry]), id(row[other])) for row in rows}
        assert len(seen) == len(GOOD[entry]) * len(GOOD[other])
    assert len(rows) < 100


def test_good_values_resolve_to_what_was_sent(form: Form, tell: Callable[[Mapping[str, Any]], Any]) -> None:
    for row in pairwise(GOOD):
        values = form.resolve(tell(form.sent(row)))
        expected = wanted(row, form)
        assert {name: values[name] for name in expected} == expected, row


@pytest.mark.parametrize("field", [name for name, edges in BAD.items() if edges])
def test_a_bad_value_among_good_ones_is_refused_by_name(
    field: str, form: Form, tell: Callable[[Mapping[str, Any]], Any]
) -> None:
    rows = list(pairwise(GOOD))
    for number, edge in enumerate(BAD[field]):
        row = rows[number % len(rows)] | {field: edge}
        with pytest.raises(InvalidConfig) as refused:
            form.resolve(tell(form.sent(row)))
        sentence = refused.value.sentence
        received = (
            ("--dataset", "--snapshot", "--split", "URI", "s3", "ftp")
            if field == "source"
            else (field, field.replace("_", "-"))
        )
        assert sentence.endswith("."), row
        assert "\n" not in sentence
        if field == "workspace":
            assert repr(edge.sent)[1:-1] in sentence, row
        elif field not in ("advanced_config", "source"):
            assert any(name in sentence for name in received), f"{row}: {sentence}"


@pytest.mark.matrix
@pytest.mark.parametrize("values", [FIELDS, ODDITIES], ids=["edges", "oddities"])
def test_whatever_is_sent_ends_with_a_training_or_a_sentence(
    values: Mapping[str, Sequence[Edge]], form: Form, tell: Callable[[Mapping[str, Any]], Any]
) -> None:
    ends = [ended(lambda row=row: form.resolve(tell(form.sent(row)))) for row in pairwise(values)]  # type: ignore[misc]
    arguments = [error for error in ends if error is not None]
    assert arguments
    # A URI without a dataset is not a mistake of the form.
    nowhere = ("no dataset lies there", "there is no such folder")
    wrong = [
        error for error in arguments if error.exit_code != 78 and not any(text in error.sentence for text in nowhere)
    ]
    assert [error.sentence for error in wrong] == []
    assert [error.sentence for error in arguments if not error.sentence.endswith(".") or "\n" in error.sentence] == []


def ended(resolve: Callable[[], Any]) -> VisionloopError | None:
    """The error for a person that something ends with, None without one; anything else is raised."""
    try:
        resolve()
    except VisionloopError as error:
        return error
    return None
