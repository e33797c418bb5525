"""``visionloop demo`` as it is typed, with fewer images and the toy trainer, and what README says to do with its model."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import laptop as machine
import pytest
from laptop import Ended, Laptop, sample_objects

from visionloop.pipelines import services

README = Path(__file__).parents[2] / "README.md"
SMALL = (8, 4, 4)
STAGES = ["snapshot", "validate", "convert", "train", "evaluate", "register"]

COMMAND = f"""
import sys
from visionloop.pipelines.cli import demo, main
demo.IMAGES = {{"detection": {SMALL}}}
sys.argv = ["visionloop", "demo", "--trainer", "toy", "--output", "text"]
main()
"""

#: What a person's shell may hold for other work.
FOREIGN = {
    "INTERNAL_S3_ENDPOINT": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "another",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "CONFIG": '{"advanced_config": {"nonsense": 1}}',
}


#: The demo up to its run, on a machine whose services are there.
UP_TO_THE_RUN = """
import contextlib, sys, types
from visionloop.pipelines.cli import demo, main
demo.services = types.SimpleNamespace(
    session=lambda: contextlib.nullcontext(types.SimpleNamespace(environment=dict)), DATASETS_BUCKET="datasets"
)
demo.write_dataset = lambda *_: None
type(demo.LAPTOP).result = lambda _, order: sys.exit(str(order.arguments))
sys.argv = ["visionloop", "demo"]
main()
"""


@pytest.fixture
def person(tmp_path: Path, registry_template: Path) -> Iterator[Laptop]:
    """A laptop with nothing on it; services that a failing test leaves are stopped."""
    made = machine.build(tmp_path / "laptop", registry_template, machine.file_prefix(tmp_path / "unused"), FOREIGN)
    yield made
    services.down(made.folder / "home")
    made.close()


def run(laptop: Laptop, code: str, without: tuple[str, ...] = ()) -> Ended:
    environment = {name: value for name, value in laptop.environment.items() if name not in without}
    arguments = [sys.executable, "-c", code]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=laptop.folder, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def lines(ended: Ended) -> dict[str, list[str]]:
    """What the demo ends with, by the first word of each line."""
    results: dict[str, list[str]] = {}
    for line in ended.stdout.splitlines():
        word, _, text = line.partition(" ")
        results.setdefault(word, []).append(text.strip())
    return results


@pytest.mark.matrix
def test_the_demo_trains_then_reuses_and_its_model_loads_as_readme_says(person: Laptop):
    first = lines(run(person, COMMAND).expect())
    assert first["Model"] == ["sample-digits, version 1, alias champion"]
    assert first["Verdict"][0].startswith("promote: ")
    assert re.fullmatch(r"mAP50 0\.\d{3}, mAP50-95 0\.\d{3}, .* on the test split", first["Metrics"][0])
    assert [Path(page).name for page in first["Report"]] == ["validate.html", "evaluate.html"]
    assert all("<html" in Path(page).read_text() for page in first["Report"])
    assert first["Time"][0].endswith(" s, 0 of 6 stages reused")
    assert first["MLflow"] == ["run `visionloop up`, then open the address that it prints"]
    assert not services.status(person.folder / "home").running

    again = run(person, COMMAND).expect()
    second = lines(again)
    assert second["Time"][0].endswith(" s, 6 of 6 stages reused")
    assert {name: second[name] for name in ("Model", "Metrics")} == {name: first[name] for name in ("Model", "Metrics")}
    assert " epoch " not in again.stderr
    assert person.versions() == [("sample-digits", 1)]

    (code,) = re.findall(r"### Load the model\n\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    (person.folder / "scene.png").write_bytes(sample_objects(1, 1, 1)["images/test/000001.png"])
    code += "\n(seen,) = model.predict(['scene.png'], params={'confidence': 0.0})[0]\nprint(seen['class'], seen['box'])"
    loaded = run(person, code, without=tuple(FOREIGN)).expect()
    assert re.fullmatch(r"[a-z]+ \[0\.0, 0\.0, 160\.0, 160\.0\]", loaded.stdout.splitlines()[-1])
    assert services.status(person.folder / "home").permanent
    person.run("down").expect()
    assert not services.status(person.folder / "home").running
    assert person.processes() == []
    assert person.refused() == []


def test_the_trainer_of_a_demo_is_the_one_whose_settings_it_gives(person: Laptop) -> None:
    person.environment["FRAMEWORK"] = "toy"
    ended = run(person, UP_TO_THE_RUN)
    assert "named by FRAMEWORK" not in ended.stderr
    assert "trainer ultralytics: the first of" in ended.stderr
    assert "yolo11n.yaml" in ended.stderr
