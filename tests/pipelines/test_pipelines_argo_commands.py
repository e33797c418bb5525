"""The Argo templates' own commands, run here in the order of the DAG: options, outputs, conditions and the look ahead."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import toy_pipeline
from compiled import Argo

from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.templates import OUTPUTS
from visionloop.pipelines.targets import cluster

pytestmark = pytest.mark.slow

VISIONLOOP = Path(sys.executable).with_name("visionloop")
ALL = ["snapshot", "validate", "convert", "train", "evaluate", "register"]


def evaluate(expression: str, look: Callable[[str], str]) -> Any:
    """An expression of the templates: ``? :``, ``&&``, ``||``, comparisons, ``in``, references, and four functions on lists."""
    expression = expression.strip()
    if expression.startswith("(") and _top_level(expression[1:], ")") == len(expression) - 2:
        return evaluate(expression[1:-1], look)
    question = _top_level(expression, "?")
    if question >= 0:
        colon = question + 1 + _top_level(expression[question + 1 :], ":")
        chosen = (question + 1, colon) if evaluate(expression[:question], look) else (colon + 1, len(expression))
        return evaluate(expression[slice(*chosen)], look)
    reference = re.compile(
        r"tasks\['[\w-]+'\]\.outputs\.parameters\.\w+|(?:workflow|inputs)\.parameters\.\w+|workflow\.uid"
    )
    text = re.sub(r", (?=(?:toJson\()?#)", ", lambda one: ", expression).replace("#", "one")
    text = text.replace("&&", " and ").replace("||", " or ")
    values: dict[str, Any] = {}

    def bind(found: re.Match[str]) -> str:
        values[name := f"value_{len(values)}"] = look(found[0])
        return name

    return eval(reference.sub(bind, text), {"__builtins__": {}, **FUNCTIONS, **values})


#: What the templates use of Argo's expression language, as Python: its lists come before what is done with them.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "filter": lambda values, keep: [value for value in values if keep(value)],
    "map": lambda values, make: [make(value) for value in values],
    "join": lambda values, separator: separator.join(values),
    "toJson": json.dumps,
}


def _top_level(expression: str, sign: str) -> int:
    depth, quoted = 0, False
    for position, character in enumerate(expression):
        quoted ^= character == "'"
        if not quoted:
            if character == sign and depth == 0:
                return position
            depth += (character in "([") - (character in ")]")
    return -1


def substitute(text: str, look: Callable[[str], str]) -> str:
    """A template's text as Argo fills it in."""

    def fill(found: re.Match[str]) -> str:
        inner = found[1]
        if inner.startswith("="):
            value = evaluate(inner[1:], look)
            return str(value).lower() if isinstance(value, bool) else str(value)
        return look(re.sub(r"^tasks\.([\w-]+)\.", r"tasks['\1'].", inner))

    return re.sub(r"\{\{(.*?)\}\}", fill, text)


class Workflow:
    """Runs the DAG of ``visionloop-train`` with the toys, one command after the other."""

    #: Stages that are not run, with all that hangs on them.
    left_out: tuple[str, ...] = ()

    def __init__(self, argo: Argo, toys: Path, folder: Path) -> None:
        self.argo, self.folder = argo, folder
        path = f"{toys / 'toys'}{os.pathsep}{Path(toy_pipeline.__file__).parent}"
        self.environment = {**os.environ, "PYTHONPATH": path}

    def variables(self, template: Mapping[str, Any]) -> dict[str, str]:
        """The environment of a template's command."""
        return self.environment

    def run(self, uid: str, arguments: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """The stages whose command ran, and those that computed."""
        log = self.folder / f"{uid}.log"
        log.touch()
        values = {
            f"workflow.parameters.{entry['name']}": entry.get("value")
            for entry in self.argo.pipeline["arguments"]["parameters"]
        }
        values |= {f"workflow.parameters.{name}": value for name, value in arguments.items()} | {"workflow.uid": uid}

        def look(name: str) -> str:
            value = values[name]
            assert value is not None, name
            return str(value)

        ran = []
        for name, task in self.argo.tasks().items():
            template = self.argo.template(task)
            if template["name"] in self.left_out:
                continue
            if "withParam" in task:
                assert json.loads(substitute(task["withParam"], look)) == []  # a loop over nothing is skipped
                continue
            if "when" in task and substitute(task["when"], look) != "true":
                for output in template["outputs"]["parameters"]:  # a skipped task has its outputs' defaults
                    values[f"tasks['{name}'].outputs.parameters.{output['name']}"] = output["valueFrom"]["default"]
                continue
            inputs = {entry["name"]: entry.get("value") for entry in template["inputs"]["parameters"]}
            inputs |= {entry["name"]: substitute(entry["value"], look) for entry in task["arguments"]["parameters"]}
            local = values | {f"inputs.parameters.{entry}": value for entry, value in inputs.items()}

            def look_inside(name: str, local: Mapping[str, Any] = local) -> str:
                value = local[name]
                assert value is not None, name
                return str(value)

            place = self.folder / uid / name
            words = [substitute(word, look_inside) for word in template["container"]["args"]]
            words = [word.replace(OUTPUTS, str(place)) for word in words]
            done = subprocess.run(
                [str(VISIONLOOP), *words],
                env={**self.variables(template), "TOY_LOG": str(log)},
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout.splitlines()[-1])["stage"] == template["name"]
            for output in template["outputs"]["parameters"]:
                file = place / output["name"]
                assert file.exists(), f"{name} wrote no {output['name']}"
                values[f"tasks['{name}'].outputs.parameters.{output['name']}"] = file.read_text()
            ran.append(name)
        return ran, log.read_text().split()


@pytest.fixture
def workflow(toys: Path, tmp_path: Path) -> Workflow:
    return Workflow(Argo(argo_files(cluster())), toys, tmp_path)


def test_the_commands_of_the_dag_make_a_run_and_a_second_one_starts_no_training(
    workflow: Workflow, tmp_path: Path
) -> None:
    fields = {
        "workspace": str(tmp_path / "work"),
        "model_name": 'Toy\'s "model"',
        "dataset": "somewhere",
        "epochs": "3",
    }
    fields |= {"advanced_config": '{"mosaic": 0}', "description": "a = b", "gate": '{"floor": 0.1}'}
    ran, computed = workflow.run("first", fields)
    assert ran == computed == ALL
    train = json.loads(next((tmp_path / "work" / "train").glob("*/*/told.json")).read_text())
    assert train["settings"] == {"trainer": "ultralytics", "epochs": "3", "advanced_config": '{"mosaic": 0}'}
    assert train["model_name"] == 'Toy\'s "model"'
    ran, computed = workflow.run("second", fields)
    assert ran == ["snapshot", "validate", "convert", "register"]
    assert computed == []
    ran, computed = workflow.run("third", fields | {"gate": ""})
    assert ran == ["snapshot", "validate", "convert", "evaluate", "register"]
    assert computed == ["evaluate", "register"]
    ran, computed = workflow.run("fourth", fields | {"export": "onnx"})
    assert ran == ["snapshot", "validate", "convert", "export", "register"]
    assert computed == ["export", "register"]
    (told,) = [
        told
        for path in (tmp_path / "work/register").glob("*/*/told.json")
        if (told := json.loads(path.read_text()))["exports"]
    ]
    assert told["exports"].startswith(f"{tmp_path.joinpath('work').as_uri()}/export/")


def test_the_small_evaluator_of_expressions_reads_what_the_templates_hold() -> None:
    values = {"workflow.parameters.a": "x", "tasks['t'].outputs.parameters.b": "it's"}
    look = values.__getitem__
    assert substitute("{{workflow.parameters.a}}/{{tasks.t.outputs.parameters.b}}", look) == "x/it's"
    assert (
        substitute("{{=workflow.parameters.a == 'y' ? 'no' : (workflow.parameters.a in ['x'] ? 'yes' : '')}}", look)
        == "yes"
    )
    assert (
        substitute("{{=workflow.parameters.a == 'x' && tasks['t'].outputs.parameters.b != 'reject'}}", look) == "true"
    )
    rows = "[['a', workflow.parameters.a, 'y'], ['b', tasks['t'].outputs.parameters.b, ''], ['c', 'z', 'z'], ['d', '', 'z']]"
    left = f"filter({rows}, #[1] not in [#[2], ''])"
    joined = substitute(f"{{{{='{{' + join(map({left}, toJson(#[0]) + ': ' + toJson(#[1])), ', ') + '}}'}}}}", look)
    assert joined == '{"a": "x", "b": "it\'s"}'
