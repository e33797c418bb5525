"""CONTRIBUTING's walks, each followed step by step: a stage, a trainer and an engine are added as it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from visionloop.training.trainers import Trainer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def walk(title: str) -> str:
    """A walk's text."""
    return re.split(r"\n## ", CONTRIBUTING.split(f"## {title}\n")[1])[0]


def run(*arguments: str, path: Path, code: int = 0) -> str:
    """What Python prints with ``path`` before all else on its path."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(path)},
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


# A stage: it audits what validate has quarantined, in an image of its own, and only where something was.

STAGE = '''
"""Counts the images that validate has quarantined."""

from dataclasses import dataclass

from visionloop.core import receipts
from visionloop.core.policy import POLICIES
from visionloop.core.stage import Attempt, Computed, Context, Resolution, argument


@dataclass(frozen=True)
class Arguments:
    """What audit is told."""

    report: str = argument("URI of the validate receipt.")


class AuditStage:
    """Counts."""

    name = "audit"
    logic_version = 1
    policy = POLICIES["audit"]
    arguments = Arguments
    description = "Counts the images that validate has quarantined."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution:
        """Reads the report's receipt."""
        report = receipts.load(arguments.report, "validate")
        return Resolution(inputs={"report": report.reference}, loaded=report)

    def compute(self, context: Context, resolution: Resolution, attempt: Attempt) -> Computed:
        """Writes the count."""
        count = str(resolution.loaded.receipt.scalars["quarantined"])
        attempt.write("count", "count.txt", count.encode(), result=True)
        return Computed(scalars={"counted": count})


STAGE = AuditStage()
'''

COMPONENT = '''
"""The audit stage as a KFP component."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("audit"), install_kfp_package=False)
def audit(
    workspace: str, report: str, run: str = "", trace_id: str = ""
) -> NamedTuple("Audit", [("receipt", str), ("counted", str)]):
    """Counts the images that validate has quarantined.

    Args:
        workspace: Where results lie.
        report: URI of the validate receipt.
        run: The run.
        trace_id: The trace id.

    Returns:
        receipt: URI of the receipt.
        counted: How many.
    """
    from visionloop.components.kubeflow import run_stage

    return run_stage("audit", workspace, run, trace_id, {"report": report}, (), ("counted",))
'''

#: The edits of existing files: the text before which a line comes, and the line.
EDITS = {
    "visionloop/core/policy.py": [
        (
            '    "convert": replace(_DATA, secrets=_WITH_REGISTRY),\n',
            '    "audit": replace(_DATA, image="visionloop-audit", timeout=120),\n',
        ),
    ],
    "components/calls.py": [
        (
            '    "convert": Call(',
            '    "audit": Call(\n        receipts={"report": "validate"}, outputs=("counted",), '
            'unless=Unless("validate", "quarantined", "0")\n    ),\n',
        ),
    ],
    "pipelines/engines/argo/train.py": [
        (
            "    for trainer in target.trainers:\n        _tasks_of_trainer(",
            '    unless = CALLS["audit"].condition\n'
            "    needed = f\"{{{{={reference_to(unless.stage, unless.scalar)} != '{unless.value}'}}}}\"\n"
            '    add_task("audit", (*after, "validate"), CALLS["audit"].arguments(form, receipts), when=needed)\n',
        ),
    ],
    "pipelines/engines/kubeflow/train.py": [
        (
            "        from_convert = {",
            '        unless = CALLS["audit"].condition\n'
            '        audits = tasks["validate"].outputs[unless.scalar] != int(unless.value)\n'
            "        with dsl.If(audits, name='something-to-audit'):\n"
            '            audited = audit(**CALLS["audit"].arguments(parameters, receipts), **common_to(parameters))\n'
            '            apply_policy(audited, "audit", target.policies["audit"], target)\n',
        ),
        (
            "from visionloop.components.calls import",
            "from visionloop.components.audit.component import audit\n",
        ),
    ],
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the stage added."""
    folder = tmp_path_factory.mktemp("walk")
    for name in ("visionloop", "components", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    own = folder / "components" / "audit"
    own.mkdir()
    (own / "stage.py").write_text(STAGE)
    (own / "component.py").write_text(COMPONENT)
    (own / "__init__.py").write_text(
        '"""audit: counts what was quarantined."""\n\nfrom visionloop.components.audit.stage import STAGE\n\n__all__ = ["STAGE"]\n'
    )
    for name, edits in EDITS.items():
        text = (folder / name).read_text(encoding="utf-8")
        for before, line in edits:
            assert text.count(before) == 1, f"{name}: {before!r}"
            text = text.replace(before, line + before)
        (folder / name).write_text(text, encoding="utf-8")
    # What its line in pyproject.toml becomes once it is installed.
    information = folder / "audit-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: audit\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[visionloop.stages]\naudit = visionloop.components.audit:STAGE\n")
    return folder


@pytest.fixture(scope="module")
def compiled(checkout: Path) -> Path:
    """Both compiled forms of the pipelines with the stage in them."""
    program = (
        "import sys; from pathlib import Path; from visionloop.pipelines.compile import compile_engine\n"
        "for engine in ('argo', 'kfp'): compile_engine(engine, Path(engine), 'registry.example.com/vision', '1.2.3')"
    )
    run("-c", program, path=checkout)
    return checkout


def test_the_walk_of_a_stage_names_every_file_that_was_edited() -> None:
    text = walk("Add a stage")
    for name in (*EDITS, "pyproject.toml", "component.py", "docs/components.py", "docs/images/draw.py", "images/"):
        assert f"`{name}" in text, name
    assert "`make golden`" in text


def test_a_stage_added_so_is_a_command(checkout: Path) -> None:
    text = run("-m", "visionloop.pipelines.cli.main", path=checkout)  # importable with the stage in it
    assert text == ""
    program = "import sys; sys.argv = ['visionloop', 'stage', 'audit', '--help']; from visionloop.pipelines.cli import main; main()"
    assert "Counts the images that validate has quarantined." in run("-c", program, path=checkout)


def test_a_stage_added_so_has_its_image_and_its_condition_on_argo(compiled: Path) -> None:
    own = yaml.safe_load((compiled / "argo" / "visionloop-audit.yaml").read_text())
    (template,) = own["spec"]["templates"]
    assert template["container"]["image"] == "registry.example.com/vision/visionloop-audit:1.2.3"
    for pipeline in ("train", "retrain"):
        first, *_ = yaml.safe_load_all((compiled / "argo" / f"visionloop-{pipeline}.yaml").read_text())
        tasks = [task for entry in first["spec"]["templates"] for task in entry.get("dag", {}).get("tasks", ())]
        (task,) = [task for task in tasks if task["name"] == "audit"]
        assert task["when"] == "{{=tasks['validate'].outputs.parameters.quarantined != '0'}}"
        assert task["templateRef"] == {"name": "visionloop-audit", "template": "audit"}
        arguments = {entry["name"]: entry["value"] for entry in task["arguments"]["parameters"]}
        assert arguments["report"] == "{{tasks.validate.outputs.parameters.receipt}}"


def test_a_stage_added_so_has_its_image_and_its_condition_on_kubeflow(compiled: Path) -> None:
    for pipeline in ("train", "retrain"):
        first, *_ = yaml.safe_load_all((compiled / "kfp" / f"visionloop-{pipeline}.yaml").read_text())
        container = first["deploymentSpec"]["executors"]["exec-audit"]["container"]
        assert container["image"] == "registry.example.com/vision/visionloop-audit:1.2.3"
        conditions = [
            task["triggerPolicy"]["condition"]
            for entry in first["components"].values()
            for task in entry.get("dag", {}).get("tasks", {}).values()
            if task.get("taskInfo", {}).get("name") == "something-to-audit"
        ]
        assert len(conditions) == 1, conditions
        assert "validate-quarantined" in conditions[0]


# A trainer: tests/third_party adds one, and trains and registers with it.


def test_the_walk_of_a_trainer_names_all_that_the_protocol_asks_for() -> None:
    text = walk("Add a trainer")
    members = {name for name in (*Trainer.__annotations__, *vars(Trainer)) if not name.startswith("_")}
    assert {name for name in members if f"`{name}" not in text} == set()


def test_a_trainer_added_so_trains_in_the_tests_of_third_parties() -> None:
    added = (ROOT / "tests/third_party/distribution/visionloop_example-1.0.dist-info/entry_points.txt").read_text()
    assert re.search(r"\[visionloop\.trainers\]\n\w+ = ", added)
    assert "visionloop.trainers" in walk("Add a trainer")


# An engine: it writes one file, and its runs end when they are submitted.

ENGINE = '''
"""An engine that runs nothing: it writes down what it is asked for."""

import json
from pathlib import Path

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.targets import cluster


class Paper:
    """Paper (``engines.Engine``)."""

    name = "paper"
    description = "a sheet"
    cluster = True
    options = {"detach": "submit and do not follow"}

    def target(self, registry, tag, gpus):
        return cluster(registry, tag, gpus)

    def compile(self, target):
        return {"paper.json": json.dumps({name: target.image(row) for name, row in target.policies.items()})}

    def unexpressed(self, target):
        return ["whatever needs more than a sheet"]

    def submit(self, order):
        raise InvalidConfig("paper: submit is asked for through run.")

    def run(self, order):
        return {"run": "sheet-1", "pipeline": order.pipeline, "model_name": order.arguments["model_name"]}

    def find(self, run, *, host=None, namespace=None):
        raise InvalidConfig(f"paper: there is no run {run}; look in the drawer.")

    def schedules(self, *, host=None, namespace=None):
        raise InvalidConfig("paper: a sheet keeps no schedules; give argo or kfp.")


ENGINE = Paper()
'''

LINE = '    "paper": "visionloop.pipelines.engines.paper",\n'


@pytest.fixture(scope="module")
def with_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the engine added: a folder and a line."""
    folder = tmp_path_factory.mktemp("walk")
    for name in ("visionloop", "components", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    own = folder / "pipelines" / "engines" / "paper"
    own.mkdir()
    (own / "__init__.py").write_text(ENGINE)
    table = folder / "pipelines" / "engines" / "__init__.py"
    text = table.read_text(encoding="utf-8")
    before = '    "kfp": "visionloop.pipelines.engines.kubeflow",\n'
    assert text.count(before) == 1
    table.write_text(text.replace(before, before + LINE), encoding="utf-8")
    return folder


def command(*words: str, path: Path, code: int = 0) -> str:
    """A command of ``visionloop`` in the copy."""
    program = f"import sys; sys.argv = {['visionloop', *words]!r}; from visionloop.pipelines.cli import main; main()"
    return run("-c", program, path=path, code=code)


DATA = ("--dataset", "s3://datasets/d", "--workspace", "s3://results/w", "--model-name", "m")


def test_an_engine_added_so_is_offered_wherever_an_engine_is_chosen(with_engine: Path) -> None:
    assert "local (this machine), argo, kfp or paper (a sheet)" in " ".join(
        command("run", "train", "--help", path=with_engine).split()
    )
    assert "argo, kfp or paper" in command("compile", "--help", path=with_engine)
    assert "argo, kfp, paper: submit and do not follow." in " ".join(
        command("run", "train", "--help", path=with_engine).split()
    )


def test_an_engine_added_so_compiles_runs_and_refuses(with_engine: Path) -> None:
    command("compile", "--engine", "paper", "--out", "out", "--registry", "registry.example.com", path=with_engine)
    images: dict[str, Any] = json.loads((with_engine / "out" / "paper.json").read_text())
    assert images["snapshot"].startswith("registry.example.com/visionloop-stage:")
    ended = json.loads(command("run", "train", "--engine", "paper", *DATA, path=with_engine))
    assert ended == {"run": "sheet-1", "pipeline": "train", "model_name": "m"}
    for words, sentence in (
        (("run", "train", "--engine", "paper", "--host", "h", *DATA), "--host works with --engine argo or kfp alone"),
        (("run", "follow", "sheet-1", "--engine", "paper"), "there is no run sheet-1"),
        (
            ("schedule", "create", "n", "--cron", "0 3 * * *", "--engine", "paper", *DATA),
            "a sheet keeps no schedules",
        ),
    ):
        assert sentence in command(*words, path=with_engine, code=78)


def test_the_walk_of_an_engine_names_all_that_the_protocol_asks_for() -> None:
    from visionloop.pipelines.engines import Engine

    text = walk("Add an engine")
    members = {name for name in vars(Engine) if not name.startswith("_")}
    assert {name for name in members if f"`{name}`" not in text} == set()
