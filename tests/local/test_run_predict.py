"""``visionloop run predict`` on a machine: record, receipts, reuse, and what a person sees of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from laptop import Ended, Laptop, Trained, sample_objects

pytestmark = pytest.mark.slow


def predicted(laptop: Laptop, model: str, images: Path | str, *arguments: str) -> Ended:
    words = ["--model", model, "--images", str(images), "--workspace", laptop.workspace.uri]
    return laptop.run("run", "predict", *words, *arguments)


def test_a_registered_version_predicts_on_a_folder(toy_trained: Trained, tmp_path: Path) -> None:
    laptop, trained = toy_trained.laptop, toy_trained.summary
    name, version = str(trained["model_name"]), trained["version"]
    photos = tmp_path / "photos"
    for key, data in sample_objects(6, 2, 2).items():
        if key.startswith("images/"):
            path = photos / key.removeprefix("images/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    (photos / "page.png").write_text("<html>")
    versions = laptop.versions()
    ended = predicted(laptop, f"{name}@champion", photos, "--write", "coco").expect()
    summary = ended.summary
    found = summary["predicted"]
    assert (found["model"], found["images_uri"]) == (f"{name}/{version}", photos.as_uri())
    assert (found["images"], found["unreadable"], found["shards"]) == (10, 1, 1)
    assert found["images_per_second"] > 0
    assert list(summary["stages"]) == ["predict", "cleanup"]
    assert (summary["version"], summary["verdict"]) == (None, None)
    assert summary["warnings"] == {"predict": {"unreadable": 1}}
    assert laptop.versions() == versions
    assert "page.png: not a PNG" in ended.stderr
    result = laptop.result("predict", summary["stages"]["predict"]["key"])
    assert result.output_uri("predictions-00000") == f"{found['results']}/predictions-00000.parquet"
    assert len(json.loads(result.read("coco"))["images"]) == found["images"]

    again = predicted(laptop, f"{name}/{version}", photos, "--write", "coco", "--output", "text").expect()
    assert "✓ predict  reused" in again.stderr
    assert f"Model    {name}/{version}, predicted" in again.stdout
    assert f"Images   {found['images']:,} with {found['objects']:,} objects, 1 can't be read" in again.stdout
    assert f"Results  {found['results']}" in again.stdout
    assert "images a second" not in again.stdout

    on_s3 = predicted(laptop, f"{name}/{version}", f"{toy_trained.dataset.uri}/images/").expect().summary["predicted"]
    assert on_s3["images"] == len(list(toy_trained.dataset.prefix.objects("images")))


def test_mistakes_end_before_anything_starts(toy_trained: Trained, tmp_path: Path) -> None:
    laptop, name = toy_trained.laptop, str(toy_trained.summary["model_name"])
    runs = [key for key in laptop.listing() if key.startswith("runs/")]
    assert "no such model is registered" in predicted(laptop, "nobody@champion", tmp_path).refused(78)
    assert "no such version" in predicted(laptop, f"{name}/99", tmp_path).refused(78)
    assert "--write voc: give coco or dice" in predicted(laptop, f"{name}/1", tmp_path, "--write", "voc").refused(78)
    assert "from 0 to 1" in predicted(laptop, f"{name}/1", tmp_path, "--confidence", "2").refused(78)
    assert "would count as an image" in predicted(laptop, f"{name}/1", laptop.workspace.uri).refused(78)
    assert "leave out --runner" in predicted(laptop, f"{name}/1", tmp_path, "--runner", "docker").refused(78)
    here = predicted(laptop, f"{name}/1", tmp_path, "--engine", "argo").refused(78)
    assert "no pod of an engine can reach it" in here
    assert [key for key in laptop.listing() if key.startswith("runs/")] == runs
    assert "no image lies there" in predicted(laptop, f"{name}/1", tmp_path).refused(65)
