"""The evaluate stage against a real MLflow, with a toy detector that really detects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from toy_detector import SIZE, Prepared, ToyTrainer, install, prepare, published, write_dataset

from visionloop.components.evaluate.result import read
from visionloop.components.evaluate.stage import UNAVAILABLE
from visionloop.components.register.document import escape
from visionloop.core import live, lookup, receipts, stage
from visionloop.core.errors import DatasetChanged, InvalidConfig, InvalidDataset, InvalidReceipt
from visionloop.core.running import Invocation
from visionloop.core.stage import Outcome
from visionloop.core.stores import local_path
from visionloop.data.annotations.crowds import Crowd
from visionloop.registry import Registry, package

pytestmark = pytest.mark.usefixtures("mlflow_uri")


def verdict(outcome: Outcome) -> str:
    return str(outcome.summary()["verdict"])


def promoted(prepared: Prepared, name: str, offset: int) -> str:
    """A champion of that offset; returns its training."""
    training = prepared.train(offset)
    outcome = prepared.register(prepared.evaluate(training, name), name)
    assert outcome.summary()["alias"] == "champion"
    return training


def test_the_first_model_is_promoted_and_its_result_says_why(
    prepared: Prepared, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = prepared.evaluate(prepared.train(2), name)
    result = read(published(outcome))
    assert result.verdict == "promote"
    assert "no champion" in result.reason
    assert result.champion == "none"
    assert result.images == 2
    assert 0 < result.metrics["mAP50-95"] < 1
    assert "lost" not in result.metrics  # a metric without a value
    assert (result.slices["size:small"], result.sliced_images) == ({"objects": 4}, 2)  # too few for a figure
    assert result.coco["AP50"] == pytest.approx(1.0)
    assert all(values == {"count": 0, "images": 0} for values in result.errors.values())
    assert set(result.per_class) == {"dim", "bright"}
    assert capfd.readouterr().out == ""
    page = published(outcome).read("report").decode()
    assert "mAP50-95" in page
    assert page.count("<img") == 2
    assert "http" not in page.replace("http-equiv", "")


def test_an_evaluation_tells_how_many_of_its_images_are_done(
    prepared: Prepared, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = prepared.train(2)
    monkeypatch.setenv(live.VARIABLE, str(tmp_path / "events"))
    monkeypatch.setattr(stage, "PROGRESS_SECONDS", 0.0)
    prepared.evaluate(training, name)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    done = [(event["done"], event["total"]) for event in events if event["kind"] == "progress"]
    # Once while the images are fetched, once while they are looked at.
    assert done == [(1, 2), (2, 2)] * 2


@pytest.mark.parametrize(
    ("offset", "gate", "expected"),
    [
        (1, None, "promote"),  # better than 3
        (5, None, "keep"),  # worse
        (5, {"epsilon": 0.5}, "promote"),  # worse, but not by more than epsilon
        (5, {"floor": 0.99}, "reject"),
        (1, {"floor": 0.99}, "reject"),  # better than the champion, but below the floor
        (1, {"primary_metric": "box_loss"}, "promote"),
        (5, {"primary_metric": "box_loss"}, "keep"),
        (5, {"primary_metric": "box_loss", "epsilon": 0.5}, "promote"),
        (1, {"primary_metric": "box_loss", "floor": 0.01}, "reject"),
    ],
)
def test_the_verdict_against_a_champion(
    prepared: Prepared, name: str, offset: int, gate: dict[str, object] | None, expected: str
) -> None:
    promoted(prepared, name, 3)
    outcome = prepared.evaluate(prepared.train(offset), name, gate=json.dumps(gate) if gate else None)
    assert verdict(outcome) == expected
    assert read(published(outcome)).champion_metrics is not None


def test_a_tie_does_not_replace_the_champion(prepared: Prepared, name: str) -> None:
    champion = promoted(prepared, name, 3)
    other = prepared.train(3, seed=1)
    outcome = prepared.evaluate(other, name)
    result = read(published(outcome))
    assert result.training != result.champion == receipts.load(champion, "train").receipt.digest
    assert result.metrics == result.champion_metrics
    assert result.verdict == "keep"
    assert "equals the champion's" in result.reason
    assert prepared.register(outcome, name).summary()["alias"] == "challenger"


def test_a_metric_that_the_task_does_not_yield_is_refused_before_anything_is_measured(
    prepared: Prepared, toy: ToyTrainer, name: str
) -> None:
    with pytest.raises(InvalidConfig, match=r"primary_metric is accuracy, .* one of .*mAP50"):
        prepared.evaluate(prepared.train(1), name, gate='{"primary_metric": "accuracy"}')
    assert toy.evaluated == []


def test_a_metric_without_a_value_promotes_nobody(prepared: Prepared, name: str) -> None:
    outcome = prepared.evaluate(prepared.train(1), name, gate='{"primary_metric": "lost"}')
    assert verdict(outcome) == "keep"
    assert outcome.summary()["reason"] == "lost is not measured: its value is not a finite number."
    registered = prepared.register(outcome, name)
    assert registered.summary()["alias"] == "challenger"
    assert "lost is not measured" in published(registered).read("card").decode()


@pytest.mark.parametrize(("gate", "expected"), [(None, "keep"), ('{"floor": 0}', "promote")])
def test_a_metric_of_0_needs_a_floor_to_be_promoted(
    prepared: Prepared, name: str, gate: str | None, expected: str
) -> None:
    outcome = prepared.evaluate(prepared.train(60), name, gate=gate)
    assert read(published(outcome)).metrics["mAP50-95"] == 0
    assert verdict(outcome) == expected
    alias = prepared.register(outcome, name).summary()["alias"]
    assert alias == ("champion" if expected == "promote" else "challenger")


def test_without_mlflow_it_says_what_to_set(prepared: Prepared, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(InvalidConfig, match="MLFLOW_TRACKING_URI"):
        prepared.evaluate(prepared.train(1), name)


def test_running_again_reuses_the_result(prepared: Prepared, toy: ToyTrainer, name: str) -> None:
    training = prepared.train(2)
    first = prepared.evaluate(training, name)
    evaluated = len(toy.evaluated)
    again = prepared.evaluate(training, name)
    assert again.reused
    assert published(again).uri == published(first).uri
    assert len(toy.evaluated) == evaluated


def test_the_champions_own_evaluation_is_the_result(prepared: Prepared, toy: ToyTrainer, name: str) -> None:
    training = prepared.train(2)
    first = prepared.evaluate(training, name)
    prepared.register(first, name)
    evaluated = len(toy.evaluated)
    again = prepared.evaluate(training, name)
    assert again.reused
    assert published(again).uri == published(first).uri
    assert again.summary()["champion"] == f"{name}/1"
    assert len(toy.evaluated) == evaluated
    # Another gate is another question: the champion is measured once and compared with itself.
    other = prepared.evaluate(training, name, gate='{"floor": 0.1}')
    assert not other.reused
    assert verdict(other) == "promote"
    assert len(toy.evaluated) == evaluated + 1


def test_force_evaluates_the_champion_again(prepared: Prepared, name: str) -> None:
    training = promoted(prepared, name, 2)
    assert not prepared.evaluate(training, name, force=True).reused


def test_another_champion_makes_another_key(prepared: Prepared, name: str) -> None:
    promoted(prepared, name, 5)
    candidate = prepared.train(4)
    before = prepared.evaluate(candidate, name)
    promoted(prepared, name, 3)
    after = prepared.evaluate(candidate, name)
    assert published(before).receipt.key != published(after).receipt.key
    assert [verdict(before), verdict(after)] == ["promote", "keep"]


@pytest.mark.parametrize(("gate", "expected"), [(None, "keep"), ('{"incomparable": "promote"}', "promote")])
def test_a_champion_of_other_classes_is_left_to_a_person(
    prepared: Prepared, name: str, tmp_path: Path, gate: str | None, expected: str
) -> None:
    promoted(prepared, name, 3)
    other = prepare(write_dataset(tmp_path / "other", classes=("dark", "light")), prepared.workspace)
    outcome = other.evaluate(other.train(1, classes="dark,light"), name, gate=gate)
    assert verdict(outcome) == expected
    assert "other classes" in outcome.summary()["reason"]


def test_a_model_of_one_class_for_all_is_described_by_its_own(prepared: Prepared, name: str) -> None:
    promoted(prepared, name, 3)
    outcome = prepared.evaluate(prepared.train(1, classes="item"), name)
    result = read(published(outcome))
    assert (result.classes, verdict(outcome)) == (["item"], "keep")
    assert "other classes" in result.reason
    assert (result.coco["AP50"], result.slices["size:small"]) == (pytest.approx(1.0), {"objects": 4})
    confusion = json.loads(published(outcome).read("confusion"))
    assert confusion["classes"] == ["item"]
    assert [len(row) for row in confusion["confusion"]] == [2, 2]
    registered = prepared.register(outcome, name)
    assert package.read(registered.summary()["storage_uri"]).classes == ["item"]
    assert "| classes | 1: item |" in published(registered).read("card").decode()


def test_a_champion_described_by_other_classes_than_it_has_is_left_to_a_person(
    prepared: Prepared, toy: ToyTrainer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations of before named no classes, and such a model was registered with the dataset's."""
    with monkeypatch.context() as patch:
        old = lambda result: msgspec.structs.replace(read(result), classes=[])  # noqa: E731
        patch.setattr("visionloop.components.register.stage.read_evaluation", old)
        described = prepared.register(prepared.evaluate(prepared.train(3, classes="item"), name), name)
    assert described.summary()["alias"] == "champion"
    outcome = prepared.evaluate(prepared.train(1), name)
    assert verdict(outcome) == "keep"
    assert "other classes" in outcome.summary()["reason"]


def test_what_is_not_measured_is_told_with_its_reason(prepared: Prepared, toy: ToyTrainer, name: str) -> None:
    reason = "the split test has no object of this class"
    toy.absent = {"dull & dark": {"mAP50-95": reason}}
    outcome = prepared.evaluate(prepared.train(2), name)
    result = read(published(outcome))
    assert result.not_measured == {"lost": "its value is not a finite number"}
    assert result.not_measured_per_class == toy.absent
    page = published(outcome).read("report").decode()
    assert "lost is not measured: its value is not a finite number." in page
    assert f"Not measured, because {reason}: dull &amp; dark." in page
    assert page.index("<bdi>bright</bdi>") < page.index("<bdi>dull &amp; dark</bdi>")
    assert '<td class="number none">0</td><td class="number soft">not measured</td>' in page
    card = published(prepared.register(outcome, name)).read("card").decode()
    assert "| lost | not measured |" in card
    assert f"Classes not measured, because {reason}: dull {escape('&')} dark." in card


def test_images_that_were_left_out_stand_beside_those_that_were_measured(
    toy: ToyTrainer, name: str, tmp_path: Path
) -> None:
    folder = write_dataset(tmp_path / "dataset", images=24)
    (folder / "images" / "3.png").unlink()
    prepared = prepare(folder, (tmp_path / "workspace").as_uri(), on_error="quarantine")
    outcome = prepared.evaluate(prepared.train(1), name)
    result = read(published(outcome))
    assert (result.images, result.left_out) == (5, {"3.png": "missing_image"})
    page = published(outcome).read("report").decode()
    assert "1 more image of the split was left out: <bdi>3.png</bdi> (missing_image)." in page
    card = published(prepared.register(outcome, name)).read("card").decode()
    assert escape("1 more images of the split were left out: 3.png") in card


def test_a_champion_that_visionloop_did_not_register_enters_by_its_version(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    registry.ensure_model(name, name)
    foreign = registry.create_version(name, "s3://elsewhere/model", {}, "made by hand")
    registry.set_alias(foreign, "champion")
    outcome = prepared.evaluate(prepared.train(1), name)
    assert published(outcome).receipt.inputs["champion"].digest == f"{name}/1"
    assert verdict(outcome) == "keep"


def test_a_training_on_another_snapshot_is_refused(prepared: Prepared, name: str, tmp_path: Path) -> None:
    other = prepare(write_dataset(tmp_path / "other", images=12), prepared.workspace)
    with pytest.raises(InvalidReceipt, match="not the snapshot"):
        other.evaluate(prepared.train(1), name)


def test_results_hold_nothing_of_the_moment(prepared: Prepared, name: str) -> None:
    """A forced second evaluation has the same digest, so nothing downstream runs again."""
    training = prepared.train(2)
    first = prepared.evaluate(training, name)
    again = prepared.evaluate(training, name, force=True)
    assert not again.reused
    assert published(first).receipt.digest == published(again).receipt.digest


def test_a_champion_whose_files_are_gone_is_left_to_a_person(prepared: Prepared, registry: Registry, name: str) -> None:
    promoted(prepared, name, 3)
    champion = registry.champion(name)
    assert champion is not None
    for uri in (champion.source, champion.tags["visionloop.storage_uri"]):
        folder = local_path(uri)
        assert folder is not None
        (folder / "artifacts" / "best.pt").unlink()
    outcome = prepared.evaluate(prepared.train(1), name)
    assert verdict(outcome) == "keep"
    assert f"models:/{name}/1: no model of Visionloop's lies at" in outcome.summary()["reason"]


@pytest.fixture
def other(toy: ToyTrainer) -> Iterator[ToyTrainer]:
    """A second trainer."""
    trainer = ToyTrainer()
    trainer.name = "other"
    with pytest.MonkeyPatch.context() as patch:
        yield install(patch, trainer)


def test_a_champion_that_its_trainer_can_not_measure_here_is_left_to_a_person_until_it_can(
    prepared: Prepared, other: ToyTrainer, name: str
) -> None:
    prepared.register(prepared.evaluate(prepared.train(3, trainer="other"), name), name)
    training = prepared.train(1)
    other.distribution = "no-such-library"
    absent = prepared.evaluate(training, name)
    assert verdict(absent) == "keep"
    assert "was trained by other, whose library is not installed here" in absent.summary()["reason"]
    assert prepared.evaluate(training, name).reused
    other.distribution = None
    installed = prepared.evaluate(training, name)
    assert not installed.reused
    assert verdict(installed) == "promote"
    assert set(published(absent).receipt.parameters) - set(published(installed).receipt.parameters) == {UNAVAILABLE}


def test_a_promoted_evaluation_whose_champion_could_not_be_measured_is_reused(
    prepared: Prepared, other: ToyTrainer, name: str
) -> None:
    prepared.register(prepared.evaluate(prepared.train(3, trainer="other"), name), name)
    training = prepared.train(1)
    gate = '{"incomparable": "promote"}'
    other.distribution = "no-such-library"
    outcome = prepared.evaluate(training, name, gate=gate)
    assert prepared.register(outcome, name).summary()["alias"] == "champion"
    other.distribution = None
    assert prepared.evaluate(training, name, gate=gate).reused


def test_an_evaluation_is_found_from_where_no_trainer_is_installed(
    prepared: Prepared, toy: ToyTrainer, other: ToyTrainer, name: str
) -> None:
    prepared.register(prepared.evaluate(prepared.train(3, trainer="other"), name), name)
    training = prepared.train(5)
    measured = published(prepared.evaluate(training, name))
    toy.distribution = other.distribution = "no-such-library"
    arguments = {"training": training, "snapshot": prepared.snapshot, "model_name": name}
    result = lookup.find("evaluate", arguments, Invocation(workspace=prepared.workspace))
    assert result is not None
    assert result.uri == measured.uri


def test_the_champion_is_measured_by_the_candidates_settings(prepared: Prepared, toy: ToyTrainer, name: str) -> None:
    promoted(prepared, name, 3)
    prepared.evaluate(prepared.train(1, conf=0.01), name)
    candidate, champion = toy.configs[-2:]
    assert (candidate["conf"], candidate["offset"]) == (0.01, 1)
    assert (champion["conf"], champion["offset"]) == (0.01, 3)


def test_out_of_memory_halves_the_batch_and_goes_on(prepared: Prepared, toy: ToyTrainer, name: str) -> None:
    toy.largest_batch = 1
    assert verdict(prepared.evaluate(prepared.train(1), name)) == "promote"
    assert [config["batch"] for config in toy.configs] == [4, 2, 1]


def test_a_split_of_which_every_image_was_left_out_is_refused(toy: ToyTrainer, name: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "dataset", images=24)
    document = json.loads((folder / "annotations_detection.json").read_text())
    for image in document["images"]:
        image["split"] = "test" if image["id"] == 3 else "val" if image["id"] % 4 == 1 else "train"
    (folder / "annotations_detection.json").write_text(json.dumps(document))
    (folder / "images" / "3.png").unlink()
    prepared = prepare(folder, (tmp_path / "workspace").as_uri(), on_error="quarantine")
    with pytest.raises(InvalidDataset, match="no usable image is in the split 'test'"):
        prepared.evaluate(prepared.train(1), name)


def test_an_image_that_changed_since_the_snapshot_is_refused(prepared: Prepared, name: str, tmp_path: Path) -> None:
    image = tmp_path / "dataset" / "images" / "3.png"
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(DatasetChanged, match=r"images/3\.png: the image changed"):
        prepared.evaluate(prepared.train(1), name)


def test_a_champion_that_is_measured_again_without_a_value_stays(prepared: Prepared, name: str) -> None:
    training = promoted(prepared, name, 2)
    outcome = prepared.evaluate(training, name, gate='{"primary_metric": "lost"}')
    assert verdict(outcome) == "keep"
    registered = prepared.register(outcome, name).summary()
    assert registered["alias"] == "champion"
    assert registered["reason"].startswith("It was the champion already")


@pytest.mark.parametrize("iscrowd", [0, 1])
def test_what_is_detected_in_a_crowd_region_is_passed_over(
    iscrowd: int, tmp_path: Path, name: str, toy: ToyTrainer
) -> None:
    """One object of a test image is turned into a region around it, or is labelled as somewhere else."""
    folder = write_dataset(tmp_path / "dataset")
    file = folder / "annotations_detection.json"
    document = json.loads(file.read_text())
    (number,) = [at for at, image in enumerate(document["images"]) if image["file_name"] == "3.png"]
    region = document["images"][number]["annotations"][1]
    region |= {"iscrowd": 1} if iscrowd else {"bbox": [2, 80, 9, 9], "area": 81}
    file.write_text(json.dumps(document))
    prepared = prepare(folder, str(tmp_path / "work"))
    result = read(published(prepared.evaluate(prepared.train(0), name, gate='{"floor": 0}')))
    objects = result.slices["size:small"]["objects"]
    counts = {kind: values["count"] for kind, values in result.errors.items() if values["count"]}
    if iscrowd:
        assert (objects, counts) == (3, {})
        left, top, width, height = region["bbox"]
        box = (left / SIZE, top / SIZE, (left + width) / SIZE, (top + height) / SIZE)
        assert toy.crowds == {"images/test/3.png": [Crowd(1, box)]}
    else:
        assert (objects, counts) == (4, {"background": 1, "missed": 1})
        assert toy.crowds == {}
