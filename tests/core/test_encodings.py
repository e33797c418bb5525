"""Texts in every encoding: of people's files, of terminals and of logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_datasets import dataset

from visionloop.components.evaluate.gate import resolve_gate
from visionloop.components.snapshot.dataset import read_metadata
from visionloop.core.encodings import decoded
from visionloop.core.storage import open_prefix
from visionloop.pipelines.cli.options import gate_text, policy_text
from visionloop.pipelines.cli.output import say
from visionloop.pipelines.console import plain
from visionloop.training.configuration.sources import read_text

MARK = b"\xef\xbb\xbf"

SCRIPT = """
import sys
from visionloop.core.encodings import print_json, write_anything
write_anything()
print_json({"name": "Größe 寸法 ✓"})
from visionloop.pipelines.cli.output import say
say("✓ validate → Größe …")
print("✗ 寸法 is wrong.", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("encoding", "out", "err"),
    [
        ("utf-8", "✓ validate → Größe …", "✗ 寸法 is wrong."),
        ("latin-1", "+ validate -> Größe ...", "x ?? is wrong."),
        ("cp1252", "+ validate -> Größe …", "x ?? is wrong."),
        ("ascii", "+ validate -> Gr??e ...", "x ?? is wrong."),
    ],
)
def test_every_encoding_takes_every_text(encoding: str, out: str, err: str):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, env=environment, check=True)
    first, second = done.stdout.decode(encoding).splitlines()
    assert json.loads(first) == {"name": "Größe 寸法 ✓"}
    assert (second, done.stderr.decode(encoding).splitlines()[-1]) == (out, err)


def test_names_of_files_and_arguments_are_utf_8_in_every_locale(tmp_path: Path) -> None:
    dataset(tmp_path / "Größe 寸法", "detection", None)
    (tmp_path / "Größe 寸法/images/0.png").rename(tmp_path / "Größe 寸法/images/寸.png")
    path = tmp_path / "Größe 寸法/annotations_detection.json"
    path.write_text(path.read_text().replace('"0.png"', '"寸.png"'), encoding="utf-8")
    seen = []
    for locale in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        main = "from visionloop.pipelines.cli import main; main()"
        command = [sys.executable, "-c", main, "dataset", "inspect", str(tmp_path / "Größe 寸法")]
        done = subprocess.run(command, capture_output=True, env={**os.environ, **locale}, check=True)
        seen.append(json.loads(done.stdout))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("text", ["part:x:1 and a:b:c", "[bold]name[/bold]", "a/path/of/1234/and:100:", "w" * 300])
def test_a_line_for_a_person_is_written_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(text)
    plain(stderr=True).print(text)
    assert capsys.readouterr() == (f"{text}\n", f"{text}\n")


@pytest.mark.parametrize("start", [b"", MARK])
def test_the_files_of_people_may_begin_with_a_byte_order_mark(tmp_path: Path, start: bytes):
    file = tmp_path / "größe.json"
    file.write_bytes(start + '{"floor": 0.5, "größe": 1}'.encode())
    assert json.loads(gate_text(str(file)))["größe"] == 1
    assert json.loads(read_text(str(file)))["größe"] == 1
    file.write_bytes(start + b'{"floor": 0.5}')
    assert resolve_gate(str(file), "mAP50", "max").floor == 0.5
    file.write_bytes(start + b"min_new_images: 3\n")
    assert json.loads(policy_text(str(file))) == {"min_new_images": 3}
    (tmp_path / "metadata.json").write_bytes(start + b'{"name": "bottles"}')
    assert read_metadata(open_prefix(tmp_path.as_uri(), "dataset"))["name"] == "bottles"


def test_only_a_mark_at_the_start_goes():
    assert decoded(MARK + b"a" + MARK) == "a\ufeff"
