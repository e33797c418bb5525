"""What makes each component usable alone is current, in the layout of the community's repository, and its example works."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from documents import ROOT, load

from visionloop.components.calls import STAGES
from visionloop.core import errors

generator: ModuleType = load("docs/components.py")

#: The files that the community's repository requires of each component, but for OWNERS: it names members of that community.
LAYOUT = {"__init__.py", "component.py", "metadata.yaml", "README.md"}

#: Ours besides them: what ``kfp.components.load_component_from_file`` reads.
LOADED = "component.yaml"


def text(stage: str, name: str) -> str:
    return (ROOT / "components" / stage / name).read_text(encoding="utf-8")


def content(path: Path, written: str) -> object:
    """YAML by what it says: kfp's loader changes how kfp writes it, for as long as the process lives."""
    return list(yaml.load_all(written, Loader=yaml.CSafeLoader)) if path.suffix == ".yaml" else written


def test_every_file_is_current() -> None:
    with ThreadPoolExecutor(1) as pool:
        files = pool.submit(generator.files).result()
    stale = [
        path
        for path, wanted in files.items()
        if not path.exists() or content(path, path.read_text(encoding="utf-8")) != content(path, wanted)
    ]
    assert stale == [], "run make golden and commit the result"


@pytest.mark.parametrize("stage", STAGES)
def test_a_component_has_the_files_of_the_layout(stage: str) -> None:
    assert {path.name for path in (ROOT / "components" / stage).iterdir()} >= {*LAYOUT, LOADED}


def test_a_component_lies_beside_its_stage_and_kfp_is_imported_for_nobody_else() -> None:
    stages = "".join(
        f"import visionloop.components.{stage} as it\n"
        f"assert it.STAGE.name and 'kfp' not in sys.modules, 'kfp was imported for {stage}'\n"
        for stage in STAGES
    )
    components = "".join(
        f"from visionloop.components.{stage}.component import {stage}\n"
        f"assert type({stage}).__name__ == 'PythonComponent' and {stage}.name == '{stage}', {stage}\n"
        for stage in STAGES
    )
    code = f"import sys\n{stages}{components}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_the_metadata_have_the_fields_that_the_community_asks_for(stage: str) -> None:
    """scripts/validate_metadata of kubeflow/pipelines-components: these fields in this order, and the form of their values."""
    result = yaml.safe_load(text(stage, "metadata.yaml"))
    assert [name for name in result if name != "tags"] == ["name", "stability", "dependencies", "lastVerified"]
    assert result["name"] == stage
    assert result["stability"] in ("experimental", "alpha", "beta", "stable")
    assert set(result["dependencies"]) <= {"kubeflow", "external_services"}
    assert result["dependencies"]["kubeflow"] == [{"name": "Pipelines", "version": ">=2.17.0"}]
    for entry in itertools.chain(*result["dependencies"].values()):
        assert set(entry) == {"name", "version"}
        assert re.fullmatch(r"(>=|<=|==)?\d+\.\d+\.\d+", entry["version"]), entry
    assert isinstance(result["lastVerified"], datetime)
    assert result["tags"]
    assert all(isinstance(tag, str) for tag in result["tags"])


@pytest.mark.parametrize("stage", STAGES)
def test_the_page_names_every_input_output_and_error(stage: str) -> None:
    page = text(stage, "README.md")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Inputs", "Outputs", "Errors", "Example"]
    interface = yaml.safe_load(text(stage, "component.yaml"))["components"][f"comp-{stage}"]
    for side in ("inputDefinitions", "outputDefinitions"):
        for entries in interface.get(side, {}).values():
            for name, entry in entries.items():
                (row,) = re.findall(rf"^\| `{name}` \|.*$", page[page.index(f"## {side[0].upper()}") :], re.MULTILINE)[
                    :1
                ]
                assert entry["description"].replace("|", "\\|") in row
    codes = {int(code) for code in re.findall(r"^\| (\d+) \| `", page, re.MULTILINE)}
    assert {65, 70, 71, 75, 77, 78, 79, 124, 130, 143} <= codes <= {error.exit_code for error in errors.all_errors()}
    assert (76 in codes) == (stage in ("train", "evaluate"))


@pytest.mark.parametrize("stage", STAGES)
def test_the_example_compiles_with_the_policys_row(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", text(stage, "README.md"), re.DOTALL)
    (tmp_path / "components").symlink_to(ROOT / "components")
    monkeypatch.chdir(tmp_path)
    # kfp walks the caller's whole stack at each setting of a task, and a test's is deep.
    with ThreadPoolExecutor(1) as pool:
        example = compile(code, f"{stage}/README.md", "exec", dont_inherit=True)
        pool.submit(exec, example, {"__name__": "example"}).result()
    specification, platform = yaml.load_all(
        (tmp_path / f"{stage}-alone.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader
    )
    images = {entry["container"]["image"] for entry in specification["deploymentSpec"]["executors"].values()}
    assert images
    assert {image.rsplit("/", 1)[0] for image in images} == {"registry.example.com/vision"}
    assert {image.rsplit(":", 1)[1] for image in images} == {"1.2.3"}
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert [label for label, entry in executors.items() if "secretAsEnv" not in entry] == []
