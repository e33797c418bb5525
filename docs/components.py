"""Writes what makes each stage's component usable alone: component.yaml, metadata.yaml and README.md in its folder.

The layout is that of the Kubeflow community's repository of components
(https://github.com/kubeflow/pipelines-components/blob/main/docs/CONTRIBUTING.md) but for OWNERS, which names members of that
community who approve changes there: whoever offers a component to it writes that file. All of it comes from the code;
tests/docs checks that it is current. Run ``.venv/bin/python docs/components.py`` after a change (``make golden`` does).
"""

from __future__ import annotations

import ast
import importlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import imports
import yaml
from kfp import compiler
from packaging.requirements import Requirement
from packaging.version import Version

from visionloop.components.calls import CALLS, STAGES
from visionloop.core import errors
from visionloop.pipelines.engines.kubeflow.ir import with_our_lines

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "components"

#: The module of the errors.
ERRORS = "visionloop.core.errors"

#: The day on which the components last ran, each alone, with the versions that constraints.txt pins.
LAST_VERIFIED = "2026-11-21T00:00:00Z"

TAGS: Mapping[str, tuple[str, ...]] = {
    "snapshot": ("data-processing",),
    "validate": ("data-processing",),
    "convert": ("data-processing",),
    "train": ("training",),
    "evaluate": ("evaluation",),
    "export": ("deployment",),
    "register": ("deployment",),
    "predict": ("inference",),
    "cleanup": ("housekeeping",),
}

#: KFP's parameter types as a person writes them.
TYPES = {
    "STRING": "text",
    "NUMBER_INTEGER": "whole number",
    "NUMBER_DOUBLE": "number",
    "BOOLEAN": "true or false",
    "STRUCT": "JSON object",
    "LIST": "JSON list",
    "TASK_FINAL_STATUS": "filled in by the engine",
}

#: What an example gives for the inputs that it needs; a receipt's URI for all others.
EXAMPLES = {
    "workspace": "s3://visionloop/results",
    "dataset": "s3://datasets/digits",
    "images": "s3://camera/2026",
    "model": "digits@champion",
    "model_name": "digits",
}
RECEIPT_OF = {argument: stage for call in CALLS.values() for argument, stage in call.receipts.items()}


def component(stage: str) -> Any:
    """A stage's KFP component."""
    return getattr(importlib.import_module(f"visionloop.components.{stage}.component"), stage)


def compiled(stage: str) -> str:
    """The component's own IR, which ``kfp.components.load_component_from_file`` reads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "component.yaml")
        compiler.Compiler().compile(component(stage), str(path))
        return with_our_lines(path.read_text(encoding="utf-8"))


def metadata(stage: str) -> str:
    """The component's entry: its name, how stable it is, and what it needs, in the order and form that the community checks."""
    value: dict[str, Any] = {
        "name": stage,
        "stability": "alpha" if version("visionloop").startswith("0.") else "stable",
        "dependencies": {"kubeflow": [{"name": "Pipelines", "version": _kfp()}]},
        "tags": list(TAGS[stage]),
        "lastVerified": LAST_VERIFIED,
    }
    if stage in ("evaluate", "register", "predict"):
        value["dependencies"]["external_services"] = [{"name": "MLflow", "version": ">=3.0.0"}]
    # A date, no text.
    return yaml.safe_dump(value, sort_keys=False).replace(f"'{LAST_VERIFIED}'", LAST_VERIFIED)


def _kfp() -> str:
    """The least version of KFP that the package takes: an entry holds one comparison with a whole version."""
    (kfp,) = (
        requirement for requirement in map(Requirement, requires("visionloop") or ()) if requirement.name == "kfp"
    )
    (least,) = (Version(requirement.version) for requirement in kfp.specifier if requirement.operator == ">=")
    return f">={least.major}.{least.minor}.{least.micro}"


def readme(stage: str) -> str:
    """The component's page."""
    definition = yaml.safe_load(compiled(stage))
    interface = definition["components"][f"comp-{stage}"]
    image = definition["deploymentSpec"]["executors"][f"exec-{stage}"]["container"]["image"]
    description = (component(stage).description or "").strip()
    parts = [
        f"# {stage}",
        f"<!-- Written by docs/components.py from the code. -->\n\n{description}",
        _life(stage, image),
        "## Inputs",
        _inputs(interface.get("inputDefinitions", {}), list(component(stage).component_spec.inputs)),
        "## Outputs",
        _outputs(interface.get("outputDefinitions", {})),
        "## Errors",
        "The stage's last line in the log is one sentence that names the file or the argument, the field and the remedy; "
        "the same stands in the run's record in the workspace. The engine itself shows exit code 1.",
        _errors(stage),
        "## Example",
        f"```python\n{example(stage)}```",
        "`apply_policy` gives the task its row of the policy table: image, CPU, memory, GPU, limits, retries, volumes, and the keys of "
        "its Secrets and the ConfigMap `visionloop` as variables. Without it a task has the image above and nothing else.",
    ]
    return "\n\n".join(parts) + "\n"


def _life(stage: str, image: str) -> str:
    if stage == "cleanup":
        return f"Image: `{image}`. It has no result: it removes what a run left behind, as an exit task."
    return (
        f"Image: `{image}`. A result that is in the workspace already is found by its key and handed on; "
        "nothing is computed twice. Leave the engine's own cache off."
    )


def _inputs(definitions: Mapping[str, Any], order: Sequence[str]) -> str:
    """The table of inputs: what has to be given first, then in the order of the signature, which the IR has lost."""
    entries = {**definitions.get("parameters", {}), **definitions.get("artifacts", {})}
    rows = []
    for name in order:
        entry = entries[name]
        kind = TYPES[entry["parameterType"]] if "parameterType" in entry else _artifact(entry)
        rows.append((f"`{name}`", kind, _default(entry), entry.get("description", "")))
    rows.sort(key=lambda row: row[2] != "required")
    return _table(("input", "type", "default", "meaning"), rows)


def _default(entry: Mapping[str, Any]) -> str:
    if "defaultValue" not in entry:
        return "none" if entry.get("isOptional") else "required"
    value = entry["defaultValue"]
    if value == "":
        return "empty"
    if entry["parameterType"] == "NUMBER_INTEGER":
        value = int(value)  # the IR holds 100 as 100.0
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _outputs(definitions: Mapping[str, Any]) -> str:
    rows = [
        (f"`{name}`", TYPES[entry["parameterType"]], entry.get("description", ""))
        for name, entry in definitions.get("parameters", {}).items()
    ]
    rows += [
        (f"`{name}`", _artifact(entry), entry.get("description", ""))
        for name, entry in definitions.get("artifacts", {}).items()
    ]
    return _table(("output", "type", "meaning"), rows) if rows else "None."


def _artifact(entry: Mapping[str, Any]) -> str:
    return f"artifact {entry['artifactType']['schemaTitle'].removeprefix('system.')}"


def _errors(stage: str) -> str:
    """The errors that the stage's modules and all that they import name."""
    own = f"visionloop.components.{stage}.stage"
    # What another stage raises is not raised here where one of its rules is asked early.
    modules = imports.closure([own], lambda module: _decides(module) and (module == own or not _is_stage(module)))
    named = {name for module in modules for name in _named(module)}
    classes = sorted(
        (error for error in errors.all_errors()[1:] if error.__name__ in named), key=lambda error: error.exit_code
    )
    rows = {}
    for error in classes:
        again = "yes" if error.exit_code in errors.RETRYABLE else "never"
        code = f"`{error.error_code}`"
        rows[error.exit_code, error.error_code] = (str(error.exit_code), code, _meaning(error), error.remedy, again)
    return _table(("exit", "code", "meaning", "remedy", "worth a retry"), rows.values())


def _decides(module: str) -> bool:
    """The check of a whole run imports what other stages raise; of its own errors the stage has each anyway."""
    return module != ERRORS and not module.endswith(".preflight")


def _is_stage(module: str) -> bool:
    return module.startswith("visionloop.components.") and module.endswith(".stage")


def _named(module: str) -> set[str]:
    """The errors that a module imports."""
    return {
        alias.name
        for node in ast.walk(imports.tree(module))
        if isinstance(node, ast.ImportFrom) and node.module == ERRORS
        for alias in node.names
    }


def _meaning(error: type[errors.VisionloopError]) -> str:
    """The docstring's first sentence."""
    return (error.__doc__ or "").strip().splitlines()[0].split(". ")[0].rstrip(".") + "."


def example(stage: str) -> str:
    """A pipeline with the component alone in it, as a person writes one."""
    definitions = yaml.safe_load(compiled(stage))["components"][f"comp-{stage}"]["inputDefinitions"]["parameters"]
    needed = [name for name, entry in definitions.items() if not entry.get("isOptional")]
    if stage == "snapshot":
        needed.append("dataset")
    arguments = "".join(
        f'        {name}="{_value(name)}",\n' for name in sorted(needed, key=lambda name: name != "workspace")
    )
    lines = [
        "from kfp import compiler, components, dsl",
        "from visionloop.pipelines.engines.kubeflow.tasks import apply_policy",
        "from visionloop.pipelines.targets import cluster",
        "",
        f'{stage} = components.load_component_from_file("components/{stage}/component.yaml")',
    ]
    if stage == "cleanup":
        lines += [
            'snapshot = components.load_component_from_file("components/snapshot/component.yaml")',
        ]
    lines += [
        'target = cluster(registry="registry.example.com/vision", tag="1.2.3")',
        "",
        "",
        f'@dsl.pipeline(name="{stage}-alone")',
        "def pipeline() -> None:",
    ]
    if stage == "cleanup":
        run = "run=dsl.PIPELINE_JOB_ID_PLACEHOLDER"
        lines += [
            f'    last = cleanup(workspace="{EXAMPLES["workspace"]}", {run})',
            f"    {_placed('last', stage)}",
            "    with dsl.ExitHandler(last):",
            "        first = snapshot(",
            f'            workspace="{EXAMPLES["workspace"]}", dataset="{EXAMPLES["dataset"]}", {run}',
            "        )",
            f"        {_placed('first', 'snapshot')}",
        ]
    else:
        lines += [f"    task = {stage}(", *arguments.splitlines(), "    )", f"    {_placed('task', stage)}"]
    lines += ["", "", f'compiler.Compiler().compile(pipeline, "{stage}-alone.yaml")']
    return "\n".join(lines) + "\n"


def _placed(task: str, stage: str) -> str:
    return f'apply_policy({task}, "{stage}", target.policies["{stage}"], target)'


def _value(name: str) -> str:
    return EXAMPLES.get(name) or f"{EXAMPLES['workspace']}/{RECEIPT_OF[name]}/…/receipt.json"


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [
        head,
        ("---",) * len(head),
        *(tuple(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in row) for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def files() -> dict[Path, str]:
    """Every generated file with what it should hold."""
    made: dict[Path, str] = {}
    for stage in STAGES:
        made[FOLDER / stage / "component.yaml"] = compiled(stage)
        made[FOLDER / stage / "metadata.yaml"] = metadata(stage)
        made[FOLDER / stage / "README.md"] = readme(stage)
    return made


def main() -> None:
    """Writes every file."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
