"""What a run does again, and what plan says of it beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import laptop as machine
import pytest
from laptop import TINY, TOY, Dataset, Laptop, Trained

pytestmark = pytest.mark.slow

ADDED = "3 images added (train/000017.png, train/000018.png, train/000019.png)"
STAGES = ["snapshot", "validate", "convert", "train", "evaluate", "register"]


def plan(
    laptop: Laptop, dataset: str, *arguments: str, settings: tuple[str, ...] = TOY
) -> dict[str, tuple[str, list[str]]]:
    """Action and reasons by stage; nothing may be written for it."""

    def state() -> tuple[object, str]:
        return laptop.listing(), hashlib.sha256(laptop.database.read_bytes()).hexdigest()

    before = state()
    words = ["--workspace", laptop.workspace.uri, "--model-name", "Tiny Digits", "--dataset", dataset, *arguments]
    ended = laptop.run("plan", "train", "--json", *words, *machine.sets(settings)).expect()
    assert state() == before
    return {entry["stage"]: (entry["action"], entry["reasons"]) for entry in ended.summary["stages"]}


def follows(*stages: str) -> dict[str, tuple[str, list[str]]]:
    return dict.fromkeys(stages, ("follows", []))


@pytest.fixture
def grown(toy_trained: Trained) -> Iterator[Dataset]:
    """The toy's dataset with three more images, for a while."""
    dataset = toy_trained.dataset
    before = dataset.prefix.read("annotations_detection.json")
    dataset.put(machine.sample_objects(train=19))
    yield dataset
    dataset.prefix.write("annotations_detection.json", before)


@pytest.fixture
def altered(toy_trained: Trained) -> Iterator[str]:
    """The key of an image whose bytes are others for a while."""
    prefix, key = toy_trained.dataset.prefix, "images/train/000003.png"
    before = prefix.read(key)
    prefix.write(key, prefix.read("images/train/000004.png"))
    yield key
    prefix.write(key, before)


def test_before_the_first_run_there_is_nothing_to_compare_with(make_laptop: Callable[..., Laptop], digits: Dataset):
    laptop = make_laptop()
    assert plan(laptop, digits.uri) == {"snapshot": ("run", ["no earlier result"]), **follows(*STAGES[1:])}
    assert laptop.listing() == {}


def test_after_a_run_all_will_be_reused(toy_trained: Trained):
    result = plan(toy_trained.laptop, toy_trained.dataset.uri)
    assert result == dict.fromkeys(STAGES, ("reuse", []))


def test_a_changed_setting_is_the_reason(toy_trained: Trained):
    settings = (*TOY[:1], "epochs=6", *TOY[2:])
    result = plan(toy_trained.laptop, toy_trained.dataset.uri, settings=settings)
    assert [action for action, _ in result.values()] == ["reuse"] * 3 + ["run"] + ["follows"] * 2
    assert result["train"] == ("run", ["epochs 4 → 6"])


@pytest.mark.matrix
def test_the_bytes_of_the_starting_weights_are_in_the_key_and_their_place_is_not(toy_trained: Trained):
    laptop = toy_trained.laptop
    places = [laptop.folder / name / "start.pt" for name in ("here", "there", "other")]
    for item, data in zip(places, (b"some weights", b"some weights", b"Some weights"), strict=True):
        item.parent.mkdir()
        item.write_bytes(data)
    arguments = [
        "--workspace",
        laptop.workspace.uri,
        "--model-name",
        "Tiny Digits",
        "--dataset",
        toy_trained.dataset.uri,
    ]

    def key(model: object) -> str:
        settings = machine.sets((f"model={model}", *TINY[1:]))
        (train,) = [
            entry
            for entry in laptop.run("plan", "train", "--json", *arguments, *settings).expect().summary["stages"]
            if entry["stage"] == "train"
        ]
        assert train["action"] == "run"
        return str(train["key"])

    here, elsewhere, other = map(key, places)
    assert here == elsewhere
    assert len({here, other, key("yolo11n.yaml")}) == 3


def test_added_images_are_the_reason(toy_trained: Trained, grown: Dataset):
    assert plan(toy_trained.laptop, grown.uri) == {"snapshot": ("run", [ADDED]), **follows(*STAGES[1:])}


def test_plan_refuses_settings_of_a_training_that_is_still_far_away(
    make_laptop: Callable[..., Laptop], digits: Dataset
):
    laptop = make_laptop()
    arguments = ["--workspace", laptop.workspace.uri, "--model-name", "Tiny Digits", "--dataset", digits.uri]
    sentence = laptop.run("plan", "train", *arguments, *machine.sets(("imgsz=100",))).refused(78)
    assert sentence.startswith("imgsz must be multiple of 32")


def test_plan_speaks_to_people_too(toy_trained: Trained, grown: Dataset):
    arguments = ["--workspace", toy_trained.laptop.workspace.uri, "--model-name", "Tiny Digits", "--dataset", grown.uri]
    ended = toy_trained.laptop.run("plan", "train", *arguments, "--output", "text", *machine.sets(TOY)).expect()
    assert ended.stdout.splitlines()[:2] == [f"snapshot  run      {ADDED}", "validate  follows"]


@pytest.mark.matrix
def test_an_earlier_snapshot_is_trained_on_after_the_dataset_grew(toy_trained: Trained, grown: Dataset):
    """With another setting, so that train and what follows run, and they alone. Its name leaves the other tests' champion."""
    laptop = toy_trained.laptop
    before = laptop.receipt("snapshot", toy_trained.key("snapshot"))
    snapshot = before.scalars["snapshot_id"]
    settings = (*TOY[:1], "epochs=5", *TOY[2:])
    arguments = ["--workspace", laptop.workspace.uri, "--model-name", "Five Epochs", "--snapshot", snapshot]
    momentum: dict[str, str | None] = {"CONFIG": '{"advanced_config": {"momentum": 0.8}}'}
    ended = laptop.run("run", "train", *arguments, *machine.sets(settings), variables=momentum).expect()
    reused = [arguments["reused"] for stage, arguments in ended.summary["stages"].items() if stage != "cleanup"]
    assert reused == [True] * 3 + [False] * 3
    assert [stage for stage in STAGES[:3] if ended.summary["stages"][stage]["key"] != toy_trained.key(stage)] == []
    training = laptop.receipt("train", ended.summary["stages"]["train"]["key"])
    assert training.key != toy_trained.key("train")
    assert training.inputs["snapshot"].digest == before.digest
    assert training.scalars["epochs"] == 5
    # The receipt says where each value came from.
    told_by = {name: (entry.value, entry.source) for name, entry in training.parameters.items()}
    assert [told_by[name] for name in ("epochs", "momentum", "patience")] == [
        (5, "argument"),
        (0.8, "CONFIG.advanced_config"),
        (100, "default"),
    ]
    assert ended.summary["model_name"] == "five-epochs"
    assert sorted(laptop.versions()) == [("five-epochs", 1), ("tiny-digits", 1)]
    assert laptop.tags("five-epochs", 1)["visionloop.snapshot_id"] == snapshot
    (note,) = [line for line in ended.stderr.splitlines() if "note:" in line]
    assert f"the dataset has moved on since {snapshot} ({ADDED})" in note


def test_a_changed_image_is_refused_by_whoever_reads_it(toy_trained: Trained, altered: str):
    laptop = toy_trained.laptop
    uris = {stage: toy_trained.receipt_uri(stage) for stage in STAGES}
    snapshot = laptop.receipt("snapshot", toy_trained.key("snapshot")).scalars["snapshot_id"]
    train = ["--converted", uris["convert"], "--snapshot", uris["snapshot"], "--force"]
    empty = {"VISIONLOOP_CACHE": str(laptop.folder / "empty")}
    for ended in (
        laptop.stage("snapshot", "--snapshot", snapshot),
        laptop.stage("validate", "--snapshot", uris["snapshot"], "--force"),
        laptop.stage("train", *train, settings=TOY, variables=empty),
    ):
        sentence = ended.refused(65)
        assert altered in sentence
        assert "changed" in sentence
    assert laptop.result("train", toy_trained.key("train")).uri == uris["train"]


def test_a_dataset_that_changes_in_a_run_is_refused_with_the_differences(toy_trained: Trained, grown: Dataset):
    sentence = toy_trained.laptop.stage("validate", "--snapshot", toy_trained.receipt_uri("snapshot")).refused(65)
    assert "the dataset changed since its snapshot" in sentence
    assert f"({ADDED})" in sentence


def test_force_computes_one_stage_again_and_what_it_gives_is_the_same(toy_trained: Trained):
    laptop = toy_trained.laptop
    before = laptop.receipt("train", toy_trained.key("train"))
    ended = laptop.train(toy_trained.dataset.uri, "--force", "train").expect()
    assert [stage for stage, entry in ended.summary["stages"].items() if not entry["reused"]] == ["train", "cleanup"]
    after = laptop.receipt("train", toy_trained.key("train"))
    assert (after.key, after.digest) == (before.key, before.digest)
    assert after.attempt != before.attempt
    assert ended.summary["version"] == 1
    assert ("tiny-digits", 2) not in laptop.versions()


def test_force_of_no_stage_is_refused(toy_trained: Trained):
    sentence = toy_trained.laptop.train(toy_trained.dataset.uri, "--force", "training").refused(78)
    assert "give one of snapshot, validate, convert, train, evaluate, export, register, cleanup." in sentence
