"""A missing package is one sentence with the command that installs it, wherever it is met."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from visionloop.core import packages
from visionloop.core.packages import install_command, is_foreign, not_installed
from visionloop.training.supervision.child import failure


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("ultralytics", "pip install 'visionloop[ultralytics]'"),
        ("cv2", "pip install 'opencv-python-headless'"),
        ("torch", "pip install 'visionloop[ultralytics]'"),
        ("hera", "pip install 'visionloop[engines]'"),
        ("kubernetes", "pip install 'visionloop[engines]'"),
        ("pandas", "pip install 'visionloop[local]'"),
        ("sqlalchemy", "pip install 'visionloop[local]'"),
        ("MySQLdb", "pip install 'mysqlclient'"),
        ("psycopg2", "pip install 'psycopg2-binary'"),
    ],
)
def test_the_command_names_the_extra_that_holds_the_package(module: str, command: str) -> None:
    assert install_command(module) == command


def test_an_extra_of_the_packages_own_name_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision is in the extra of each trainer that needs it."""
    held = ["ultralytics", "torchvision", "all"]
    requires = [f"torchvision>=0.25; extra == '{extra}'" for extra in held]
    monkeypatch.setattr(packages.metadata, "requires", lambda _: requires)
    assert install_command("torchvision") == "pip install 'visionloop[torchvision]'"


@pytest.mark.parametrize("module", ["torch", "safetensors", "matplotlib", "mlflow"])
@pytest.mark.parametrize("trainer", ["timm", "torchvision", "transformers"])
def test_a_trainer_that_lacks_a_package_is_advised_its_own_extra(module: str, trainer: str) -> None:
    output = failure(ModuleNotFoundError(name=module), trainer).sentence
    assert output.endswith(f"install it with pip install 'visionloop[{trainer}]'.")


def test_an_extra_that_does_not_hold_the_package_is_not_advised() -> None:
    assert install_command("timm", extra="ultralytics") == "pip install 'visionloop[timm]'"
    assert install_command("nothing-of-ours", extra="timm") == "pip install 'nothing-of-ours'"


def test_a_module_of_our_own_is_a_defect() -> None:
    assert not is_foreign(ModuleNotFoundError("no", name="visionloop.nowhere"))
    assert is_foreign(ModuleNotFoundError("no", name="hera.workflows"))
    text = not_installed(ModuleNotFoundError("no", name="hera.workflows"), "visionloop compile").sentence
    assert (
        text
        == "visionloop compile needs the package hera, which is not installed here; install it with pip install 'visionloop[engines]'."
    )


def without(module: str, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that can't import a module."""
    blocked = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {module!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", blocked + code], cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_command_whose_extra_is_missing(tmp_path: Path) -> None:
    arguments = ["visionloop", "compile", "--engine", "argo", "--out", str(tmp_path / "out")]
    ended = without("hera", tmp_path, f"sys.argv = {arguments!r}\nfrom visionloop.pipelines.cli import main\nmain()")
    assert ended.returncode == 78, ended.stderr
    assert ended.stderr.splitlines() == [
        "visionloop compile --engine argo needs the package hera, which is not installed here; install it with pip install 'visionloop[engines]'."
    ]


def test_register_in_an_image_without_pandas(tmp_path: Path) -> None:
    """mlflow-skinny can reach a registry, but not write a model."""
    code = (
        "from pathlib import Path\n"
        "from visionloop.core.errors import InvalidConfig\n"
        "from visionloop.registry import package\n"
        "from visionloop.training import catalog\n"
        "trainer = catalog.trainer('ultralytics')\n"
        "made = package.Description(trainer='ultralytics', task='detection', classes=['a'], training_digest='0', checkpoint='a.pt', checkpoint_sha256='0', config={})\n"
        "Path('a.pt').write_bytes(b'weights')\n"
        "try:\n"
        "    package.build(Path('model'), Path('a.pt'), trainer, made)\n"
        "except InvalidConfig as error:\n"
        "    print(error.sentence)\n"
    )
    ended = without("pandas", tmp_path, code)
    assert ended.stdout.splitlines()[-1:] == [
        "register needs the package pandas, which is not installed here; install it with pip install 'visionloop[local]'."
    ], ended.stderr
