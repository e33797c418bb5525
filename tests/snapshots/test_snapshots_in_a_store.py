"""``visionloop snapshot`` on a real S3, where dataset and workspace lie in a store: listed, compared, drawn, deleted."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import laptop as machine
import pytest
from laptop import Server
from small_datasets import dataset
from snapshot_commands import command

from visionloop.core import catalog
from visionloop.core.running import Invocation, run_stage


def test_the_life_of_two_snapshots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], s3: Server, s3_environment: Server
) -> None:
    name = f"snapshots-{uuid.uuid4().hex[:8]}"
    source, workspace = machine.s3_prefix(s3, "datasets", name, "dataset"), machine.s3_prefix(s3, "results", name)
    folder = dataset(tmp_path / "set", "detection", None)
    assert json.loads(command(capsys, "list", "--workspace", workspace.uri)[1]) == {"snapshots": []}

    def taken() -> str:
        for path in folder.rglob("*.*"):
            data, key = path.read_bytes(), path.relative_to(folder).as_posix()
            if not source.exists(key) or source.read(key) != data:
                source.write(key, data)
        invocation = Invocation(workspace.uri, run=uuid.uuid4().hex[:8])
        result = run_stage(catalog.stage("snapshot"), {"dataset": source.uri}, invocation).result
        assert result is not None
        return str(result.receipt.scalars["snapshot_id"])

    before = taken()
    file = folder / "annotations_detection.json"
    document = json.loads(file.read_text())
    document["images"][0]["annotations"] = []
    file.write_text(json.dumps(document))
    (folder / "images/1.png").write_bytes((folder / "images/0.png").read_bytes())
    after = taken()

    actual = json.loads(command(capsys, "list", "--workspace", workspace.uri)[1])["snapshots"]
    assert {entry["id"]: (entry["format"], entry["objects"]) for entry in actual} == {
        before: ("dice", 4),
        after: ("dice", 3),
    }
    page = tmp_path / "page.html"
    words = ("diff", before, after, "--workspace", workspace.uri, "--page", page)
    code, out, sentence = command(capsys, *words)
    assert (code, sentence) == (0, "")
    images = json.loads(out)["images"]
    assert (images["labels"]["file_names"], images["bytes"]["file_names"]) == (["0.png"], ["1.png"])
    text = page.read_text()
    assert text.count('<img src="data:image/jpeg') == 3  # of the image whose bytes changed only the later one is there
    assert "before: changed since" in text

    assert command(capsys, "delete", before, "--workspace", workspace.uri)[0] == 0
    left = [info.key for info in workspace.objects()]
    assert [key for key in left if key.endswith("/receipt.json")] == [
        key for key in left if key.startswith("snapshot/") and key.endswith("/receipt.json")
    ]
    assert len([key for key in left if key.startswith("snapshot/")]) == 4
    assert [key for key in left if key.startswith("snapshots/")] == [f"snapshots/{after}.json"]
    code, _, sentence = command(capsys, "list", "--workspace", "s3://no-such-bucket-here/work")
    assert (code, "there is no such bucket" in sentence) == (78, True)
