import hashlib
import math
import re
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from dice_samples import FILE, dataset, document, encoded, image
from hypothesis import assume, given
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.split import FILL, assign
from visionloop.data.annotations.split_rules import (
    FoldRule,
    SharedSplit,
    SplitRule,
    TimeRule,
    fraction,
    parse_split,
    shared_split,
    split_from_object,
)
from visionloop.data.annotations.tables import SPLITS, Annotations
from visionloop.data.formats.dice.reader import read_file

RULE = SplitRule(train=0.8, val=0.1, test=0.1)


def named(names: list[str], split: str | None = "train", **fields: Any) -> Annotations:
    return dataset(document([image(name, index, split=split, **fields) for index, name in enumerate(names)]))


def many(count: int, split: str | None = "train") -> Annotations:
    return named([f"{number:05d}.png" for number in range(count)], split)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("train=0.8,val=0.1,test=0.1", RULE),
        (" train = 0.8 , val=0.1,test=0.1,seed=7 ", SplitRule(0.8, 0.1, 0.1, seed=7)),
        ("val=0.1,train=0.9", SplitRule(0.9, 0.1, 0.0)),
        ("train=0.7,val=0.2,test=0.1,group=patient", SplitRule(0.7, 0.2, 0.1, group="patient")),
        ("train=1", SplitRule(1.0, 0.0, 0.0)),
    ],
)
def test_a_rule_is_read(text: str, rule: SplitRule) -> None:
    assert parse_split(text) == rule
    assert split_from_object(rule.canonical(), "CONFIG.split_strategy") == rule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is not of the form"),
        ("0.8/0.1/0.1", "is not of the form"),
        ("train=0.8,val=0.2,val=0.0", "give each key once"),
        ("train=0.8,val=", "is not of the form"),
        ("train=0.8,val=0.1,test=0.2", "the fractions train 0.8, val 0.1, test 0.2 do not sum to 1"),
        ("train=0.8,val=0.1,test=0.1001", "do not sum to 1"),
        ("train=1.2,val=-0.1,test=-0.1", "--split train must be a number from 0 to 1"),
        ("train=nan,val=0.5,test=0.5", "--split train must be a number from 0 to 1"),
        ("train=most,val=0.1,test=0.1", "--split train: 'most' is not a number"),
        ("train=0.8,val=0.1,test=0.1,seed=0.5", "--split seed: '0.5' is not a number"),
        ("train=0.8,dev=0.2", "--split dev is not a setting of a split; choose from train, val, test, seed, group"),
        ("train=0,val=0.5,test=0.5", "--split train is 0"),
    ],
)
def test_a_wrong_rule_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        parse_split(text)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([0.8, 0.1, 0.1], "expected an object"),
        (None, "expected an object"),
        ({"train": "0.8", "val": 0.2}, "split_config.train must be a number"),
        ({"train": True}, "split_config.train must be a number"),
        ({"train": 1, "seed": "0"}, "split_config.seed must be a whole number"),
        ({"train": 1, "seed": True}, "split_config.seed must be a whole number"),
        ({"train": 1, "group": ""}, "split_config.group must name a field"),
        ({"train": 1, "group": 3}, "split_config.group must name a field"),
    ],
)
def test_a_wrong_object_is_refused(value: object, expected: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        split_from_object(value, "metadata.json: split_config")
    assert expected in str(error.value)


def test_numbers_that_became_floats_on_the_way_are_read() -> None:
    assert split_from_object({"train": 1, "seed": 3.0}, "CONFIG.split_strategy") == SplitRule(1.0, 0.0, 0.0, seed=3)


@given(st.text(max_size=30))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = parse_split(text)
    except InvalidConfig:
        return
    if isinstance(rule, SharedSplit):
        assert {rule.split, rule.source} == {"val", "test"}
        return
    if not isinstance(rule, SplitRule):
        assert isinstance(rule, FoldRule | TimeRule)
        return
    assert math.isclose(rule.train + rule.val + rule.test, 1)


@given(st.text(max_size=10), st.integers())
def test_u_is_the_hash_as_a_fraction(name: str, seed: int) -> None:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
    u = fraction(name, seed)
    assert 0 <= u < 1
    assert math.isclose(u, int(digest, 16) / 16**64, abs_tol=1e-15)


def test_a_rule_counts_before_the_split_field() -> None:
    assignment = assign(many(2000, split="val"), RULE)
    for name, split in assignment.splits.items():
        u = fraction(name)
        assert split == ("test" if u < 0.1 else "val" if u < 0.2 else "train")
    assert assignment.notices == ()
    assert 150 < assignment.counts["test"] < 250
    assert 150 < assignment.counts["val"] < 250


def test_another_seed_gives_another_split() -> None:
    entry, other = assign(many(200), RULE), assign(many(200), SplitRule(0.8, 0.1, 0.1, seed=1))
    assert entry.splits != other.splits
    assert entry.digest() != other.digest()


def test_the_digest_is_independent_of_order() -> None:
    entry, other = assign(named(["a.png", "b.png", "c.png"]), RULE), assign(named(["c.png", "b.png", "a.png"]), RULE)
    assert entry.digest() == other.digest()


names = st.lists(st.text("abcdefgh", min_size=1, max_size=4).map(lambda stem: f"{stem}.png"), min_size=3, unique=True)


@given(names, st.integers(3, 30), st.sampled_from([RULE, SplitRule(0.5, 0.3, 0.2, seed=5), None]))
def test_an_image_never_moves_as_the_dataset_grows(every: list[str], size: int, rule: SplitRule | None) -> None:
    before, after = assign(named(every[:size]), rule), assign(named(every), rule)
    hashed = rule or FILL
    for name, split in before.splits.items():
        # Only what was taken because a split stayed empty may move; a notice names it.
        if split == hashed.of(name) and after.splits[name] != split:
            assert any("stayed empty" in notice and name in notice for notice in after.notices)
        if split != hashed.of(name):
            assert any("stayed empty" in notice and name in notice for notice in before.notices)


@given(names, st.integers(3, 30), st.sampled_from([RULE, SplitRule(0.5, 0.3, 0.2, seed=5), None]))
def test_what_was_trained_on_is_never_tested_on_as_the_dataset_grows(
    every: list[str], size: int, rule: SplitRule | None
) -> None:
    before, after = assign(named(every[:size]), rule), assign(named(every), rule)
    assume(all("got from train" in notice for notice in before.notices if "stayed empty" in notice))
    assert all(after.splits[name] == "train" for name, split in before.splits.items() if split == "train")


@given(names, st.integers(3, 30), st.sampled_from([RULE, SplitRule(0.5, 0.3, 0.2, seed=5), SplitRule(0.7, 0, 0.3)]))
def test_the_seed_that_a_filled_split_names_moves_nothing(every: list[str], size: int, rule: SplitRule) -> None:
    notices = assign(named(every[:size]), rule).notices
    assume(notices)
    match = re.search(r"; with seed=(\d+) no split stays empty, and no image moves later\.$", notices[0])
    assert match is not None
    stable = replace(rule, seed=int(match[1]))
    before, after = assign(named(every[:size]), stable), assign(named(every), stable)
    assert before.notices == after.notices == ()
    assert before.splits.items() <= after.splits.items()


def test_a_split_that_hardly_any_name_falls_into_has_no_seed_to_name() -> None:
    notices = assign(many(3000), SplitRule(1 - 2e-9, 1e-9, 1e-9)).notices
    assert len(notices) == 2
    assert all(notice.endswith("this may move again as the dataset grows.") for notice in notices)


def test_a_large_dataset_grows_without_a_move() -> None:
    for rule in (RULE, None):
        before, after = assign(many(300), rule), assign(many(900), rule)
        assert all(after.splits[name] == split for name, split in before.splits.items())


def test_without_a_rule_the_field_counts() -> None:
    images = [image(f"{split}.png", index, split=split) for index, split in enumerate(["train", "val", "test", None])]
    images[3]["file_name"] = "none.png"
    assignment = assign(dataset(document(images)), None)
    assert assignment.splits == {"train.png": "train", "val.png": "val", "test.png": "test", "none.png": "train"}
    assert assignment.notices == ()


@pytest.mark.parametrize("split", ["train", None])
def test_missing_splits_are_filled_from_train_images_with_a_notice(split: str | None) -> None:
    assignment = assign(many(500, split), None)
    assert assignment.splits == assign(many(500), FILL).splits
    assert len(assignment.notices) == 2
    assert assignment.notices[0].startswith(
        f"{FILE}: no image is in test; by the hash of their file names it got {assignment.counts['test']} of 500 train"
    )


def test_only_the_missing_split_is_filled_and_only_from_train_images() -> None:
    every = [image(f"{index:04d}.png", index, split="test" if index < 100 else "train") for index in range(500)]
    assignment = assign(dataset(document(every)), None)
    assert {name for name, split in assignment.splits.items() if split == "test"} == {
        f"{i:04d}.png" for i in range(100)
    }
    filled = {name for name, split in assignment.splits.items() if split == "val"}
    assert filled == {f"{i:04d}.png" for i in range(100, 500) if 0.1 <= fraction(f"{i:04d}.png") < 0.2}
    assert len(assignment.notices) == 1


@pytest.mark.parametrize("rule", [None, RULE])
def test_a_split_that_stays_empty_gets_the_image_of_smallest_hash(rule: SplitRule | None) -> None:
    every = [f"{number}.png" for number in range(200) if fraction(f"{number}.png") > 0.2][:5]
    by_hash = sorted(every, key=fraction)
    assignment = assign(named(every), rule)
    assert assignment.splits == dict.fromkeys(every, "train") | {by_hash[0]: "test", by_hash[1]: "val"}
    assert len(assignment.notices) == 2
    assert f"test stayed empty and got from train what has the smallest hash, {by_hash[0]};" in assignment.notices[0]


@pytest.mark.parametrize("rule", [None, RULE])
@pytest.mark.parametrize("split", SPLITS)
def test_three_images_fill_three_splits_wherever_their_hashes_lie(split: str, rule: SplitRule | None) -> None:
    every = [name for name in (f"{number}.png" for number in range(200)) if FILL.of(name) == split][:3]
    assignment = assign(named(every), rule)
    assert assignment.counts == {"train": 1, "val": 1, "test": 1}
    assert sum("stayed empty" in notice for notice in assignment.notices) == 2


def test_a_rule_with_the_fraction_zero_leaves_its_split_empty() -> None:
    assert assign(many(300), SplitRule(0.9, 0.1, 0.0)).counts["test"] == 0


@pytest.mark.parametrize("origin", ["--split", "metadata.json: split_config"])
def test_a_rule_that_leaves_a_split_empty_is_named_and_not_the_images_field(origin: str) -> None:
    every = [image("1.png", 1, split="train")]
    with pytest.raises(InvalidDataset, match=rf"^{origin}: the 1 images leave test and val empty"):
        assign(dataset(document(every)), parse_split("train=0.8,val=0.1,test=0.1"), origin=origin)


@pytest.mark.parametrize(
    ("splits", "empty"),
    [(["train"], "test and val"), (["train", "train"], "val"), (["train", "val"], "test"), (["val", "test"], "train")],
)
def test_too_few_images_are_refused(splits: list[str], empty: str) -> None:
    every = [image(f"{9 - index}.png", index, split=split) for index, split in enumerate(splits)]
    with pytest.raises(InvalidDataset, match=rf"{FILE}: images\[\].split: .* leave .*{empty}.* empty"):
        assign(dataset(document(every)), None)


def grouped(entries: list[dict[str, Any]]) -> bytes:
    return encoded(document([image(f"{index:03d}.png", index) | entry for index, entry in enumerate(entries)]))


def test_groups_are_looked_for_in_the_image_its_metadata_and_its_attributes() -> None:
    data = grouped(
        [
            {"patient": "a", "metadata": {"patient": "z"}},
            {"metadata": {"patient": "b", "labeled_by": "x@example.com"}, "attributes": {"patient": "z"}},
            {"attributes": {"patient": "c"}},
            {"patient": 7},
            {"patient": 7.0},
            {"patient": None},
            {"metadata": {"patient": ""}},
            {},
        ]
    )
    result = read_file(data, FILE, None, "patient").images["group"].to_pylist()
    assert result == ["a", "b", "c", "7", "7", None, None, None]


def with_groups(read: Annotations, groups: dict[str, str]) -> Annotations:
    """The annotations with a group for some of their images, by file name."""
    values = [groups.get(name) for name in read.images["file_name"].to_pylist()]
    at = read.images.schema.get_field_index("group")
    return replace(read, images=read.images.set_column(at, "group", pa.array(values, pa.string())))


def test_a_group_stays_together() -> None:
    data = grouped([{"metadata": {"patient": f"p{index % 40}"}} for index in range(400)])
    rule = parse_split("train=0.6,val=0.2,test=0.2,group=patient")
    assignment = assign(read_file(data, FILE, None, "patient"), rule)
    by_group: dict[int, set[str]] = {}
    for name, split in assignment.splits.items():
        by_group.setdefault(int(name[:3]) % 40, set()).add(split)
    assert all(len(splits) == 1 for splits in by_group.values())
    assert set(assignment.counts) == {"train", "val", "test"}
    assert isinstance(rule, SplitRule)
    assert all(split == rule.of(f"p{int(name[:3]) % 40}") for name, split in assignment.splits.items())


def test_a_whole_group_fills_a_split_that_stays_empty() -> None:
    keys = [key for key in (f"g{number}" for number in range(99)) if fraction(key) > 0.2][:4]
    read = named([f"{index}.png" for index in range(8)])
    results = {f"{index}.png": keys[index % 4] for index in range(8)}
    assignment = assign(with_groups(read, results), SplitRule(0.8, 0.1, 0.1, group="g"))
    smallest = sorted(keys, key=fraction)
    for split, key in (("test", smallest[0]), ("val", smallest[1])):
        assert {name for name, where in assignment.splits.items() if where == split} == {
            name for name, group in results.items() if group == key
        }


def test_images_without_a_group_are_split_by_file_name_with_a_notice() -> None:
    read = many(50)
    result = dict.fromkeys(read.images["file_name"].to_pylist()[:10], "together")
    rule = SplitRule(0.8, 0.1, 0.1, group="patient")
    assignment = assign(with_groups(read, result), rule)
    assert assignment.splits["00020.png"] == rule.of("00020.png")
    assert (
        f"{FILE}: 40 images have no patient, and are split by file name: 00010.png, 00011.png, 00012.png and 37 more."
        in (assignment.notices)
    )


@pytest.mark.parametrize("field", ["patient", "annotations", "file_name"])
def test_a_group_that_no_image_has_is_refused(field: str) -> None:
    with pytest.raises(InvalidConfig, match=f"group={field}"):
        read_file(encoded(document()), FILE, None, field)


@pytest.mark.parametrize("value", [["a"], {"a": 1}])
def test_a_group_that_is_no_single_value_is_refused(value: object) -> None:
    with pytest.raises(InvalidConfig, match=r"images\[0\]: group=patient is a list or an object"):
        read_file(grouped([{"patient": value}]), FILE, None, "patient")


@pytest.mark.parametrize(("text", "split", "source"), [("test=val", "test", "val"), (" val = test ", "val", "test")])
def test_one_splits_images_are_another_as_well(text: str, split: str, source: str) -> None:
    rule = parse_split(text)
    assert isinstance(rule, SharedSplit)
    assert (rule.split, rule.source) == (split, source)
    assert shared_split(rule.canonical()) == rule
    images = [image("a.png", split="train"), image("b.png", split=source), image("c.png", split=source)]
    assignment = assign(dataset(document(images)), rule)
    assert assignment.splits == {"a.png": "train", "b.png": source, "c.png": source}
    assert assignment.also == {"b.png": split, "c.png": split}
    (notice,) = assignment.notices
    assert f"the 2 images of {source} are {split} as well" in notice


@pytest.mark.parametrize("text", ["test=val,train=0.8", "test=val,seed=1", "test=val,val=test"])
def test_naming_a_split_goes_alone(text: str) -> None:
    with pytest.raises(InvalidConfig, match="give test=val or val=test alone"):
        parse_split(text)


@pytest.mark.parametrize("text", ["train=val", "test=train", "test=test", "val=train"])
def test_what_is_trained_on_is_never_measured(text: str) -> None:
    with pytest.raises(InvalidConfig, match="would train on what is measured"):
        parse_split(text)


@pytest.mark.parametrize(("splits", "missing"), [(["train", "test"], "val"), (["val", "test"], "train")])
def test_a_split_without_images_can_be_no_other(splits: list[str], missing: str) -> None:
    images = [image(f"{split}.png", split=split) for split in splits]
    with pytest.raises(InvalidDataset, match=f"no image is in {missing}, which --split test=val needs"):
        assign(dataset(document(images)), parse_split("test=val"))


def test_images_that_the_dataset_gives_to_two_splits_count_in_both() -> None:
    images = [image("a.png", split="train"), image("b.png", split="val"), image("c.png", split="val")]
    read = replace(dataset(document(images)), shared=("b.png",))
    assignment = assign(read, None)
    assert (assignment.counts, assignment.also) == ({"train": 1, "val": 2, "test": 1}, {"b.png": "test"})
    assert assignment.notices == ()
    assert assignment.digest() != replace(assignment, also={}).digest()
    by_rule = assign(read, SplitRule(0.4, 0.3, 0.3))
    assert by_rule.also == {}
    words = "1 images are in val and test, and get one split each by the rule: b.png"
    assert any(words in notice for notice in by_rule.notices)


def test_the_keys_of_rules_before_are_what_they_were() -> None:
    assert shared_split(parse_split("train=0.8,val=0.1,test=0.1").canonical()) is None
    assert shared_split(None) is None
