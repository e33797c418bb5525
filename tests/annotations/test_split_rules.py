"""Splits by folder, pattern, fold and date: what they give, what they refuse, and that no image moves as a dataset grows."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from dice_samples import FILE, dataset, document, encoded, image
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.groups import LONGEST_PATTERN, groups_of
from visionloop.data.annotations.split import assign
from visionloop.data.annotations.split_rules import (
    FoldRule,
    SplitRule,
    TimeRule,
    fraction,
    parse_split,
    parsed_date,
    split_from_object,
)
from visionloop.data.annotations.tables import SPLITS, Annotations
from visionloop.data.formats.dice.reader import read_file

HALVES = "train=0.4,val=0.3,test=0.3"


def named(names: list[str], dates: list[str | None] | None = None) -> Annotations:
    read = dataset(document([image(name, index) for index, name in enumerate(names)]))
    if dates is None:
        return read
    at = read.images.schema.get_field_index("group")
    return replace(read, images=read.images.set_column(at, "group", pa.array(dates, pa.string())))


def frames(videos: int, each: int) -> list[str]:
    return [f"video_{video:02d}/{frame:03d}.png" for video in range(videos) for frame in range(each)]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"{HALVES},group=folder", SplitRule(0.4, 0.3, 0.3, group="folder")),
        (f"{HALVES},group=regex:^v(1,2)=[a,b]", SplitRule(0.4, 0.3, 0.3, group="regex:^v(1,2)=[a,b]")),
        (f"{HALVES},seed=2, group = regex: x ", SplitRule(0.4, 0.3, 0.3, seed=2, group="regex: x ")),
        ("fold=2/5", FoldRule(2, 5)),
        ("fold= 5 / 5 ,seed=3,group=folder", FoldRule(5, 5, seed=3, group="folder")),
        ("fold=1/3,group=regex:,seed=9", FoldRule(1, 3, group="regex:,seed=9")),
        (
            "time=taken,val=2026-01-01,test=2026-02-01T12:00:00+02:00",
            TimeRule("taken", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, 10, tzinfo=UTC)),
        ),
    ],
)
def test_a_rule_is_read_and_its_object_gives_it_back(text: str, rule: SplitRule | FoldRule | TimeRule) -> None:
    assert parse_split(text) == rule
    assert split_from_object(rule.canonical(), "metadata.json: split_config") == rule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HALVES},group=regex:", "regex: needs a pattern"),
        (f"{HALVES},group=regex:(a", '"(a" is not a regular expression of RE2 (missing ))'),
        (f"{HALVES},group=regex:(?=a)", "(invalid perl operator)"),
        (f"{HALVES},group=regex:\ud800", "holds half a character"),
        (f"{HALVES},group=regex:{'a' * (LONGEST_PATTERN + 1)}", "1,001 characters, more than 1,000"),
        (f"{HALVES},group=regex:((a{{100}}){{100}}){{100}}", "(invalid repetition size)"),
        (f"{HALVES},group=a,group=regex:b", "has group twice"),
        (f'{HALVES},group=a"b', "a field's name has no quotation marks"),
        ("time=a\x1b,val=2026-01-01,test=2026-02-01", "--split time 'a\\x1b': a field's name has no"),
        ("group=regex:a", "do not sum to 1"),
        ("fold=0/5", "--split fold 0/5: there is no such fold; give 1/5 to 5/5."),
        ("fold=6/5", "--split fold 6/5: there is no such fold"),
        ("fold=1/2", "at least 3 folds"),
        ("fold=2", "must be one of several folds, such as 2/5, not '2'"),
        ("fold=-1/5", "must be one of several folds"),
        ("fold=1/9999999", "must be one of several folds"),
        ("fold=2/5,train=0.8", "--split fold and train are both given; with fold give seed and group alone."),
        ("fold=2/5,time=taken", "--split time and fold are both given"),
        ("fold=2/5,seed=x", "--split seed: 'x' is not a number"),
        ("time=taken,val=yesterday,test=2026-02-01", "--split val is 'yesterday', which is not a date such as"),
        ("time=taken,val=2026-13-01,test=2026-02-01", "--split val is '2026-13-01'"),
        ("time=taken,val=2026-01-01", "--split test is missing; give a date"),
        ("time=taken,val=2026-02-01,test=2026-02-01", "does not lie before test=2026-02-01"),
        ("time=taken,val=2026-01-01,test=2026-02-01,group=folder", "--split time and group are both given"),
        ("time=taken,train=0.8,val=2026-01-01,test=2026-02-01", "--split time and train are both given"),
        ("time=taken,val=test", "names a split as another"),
    ],
)
def test_a_wrong_rule_is_refused_before_anything_is_read(text: str, expected: str) -> None:
    with pytest.raises(InvalidConfig, match=re.escape(expected)):
        parse_split(text)


@pytest.mark.parametrize("group", ["folder", "regex:^(video_[0-9]+)/", "regex:video_[0-9]+"])
def test_frames_of_one_video_stay_together(group: str) -> None:
    rule = parse_split(f"{HALVES},group={group}")
    assert isinstance(rule, SplitRule)
    assignment = assign(named(frames(20, 5)), rule)
    assert assignment.notices == ()
    for name, split in assignment.splits.items():
        assert split == rule.of(name.partition("/")[0])
    assert set(assignment.splits.values()) == set(SPLITS)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("cam([0-9]+)", ["1", "22", None, "3"]),
        ("(cam)?([0-9]+)", ["cam", "cam", "7", "cam"]),
        ("[0-9]+$", [None, None, "7", "3"]),
        ("(?i)CAM.", ["cam1", "cam2", None, "cam3"]),
        ("z*", None),
        ("nothing", None),
    ],
)
def test_the_first_group_counts_else_the_whole_match(pattern: str, expected: list[str | None] | None) -> None:
    read = named(["cam1_a", "cam22_b", "x/7", "y/cam3"])
    if expected is None:
        with pytest.raises(InvalidConfig, match="the pattern matches no file name"):
            groups_of(read, f"regex:{pattern}")
        return
    assert groups_of(read, f"regex:{pattern}") == expected


def test_images_without_a_folder_or_a_match_are_split_by_file_name_and_counted() -> None:
    every = [*frames(30, 2), "a.png", "b.png"]
    rule = parse_split(f"{HALVES},group=folder")
    assert isinstance(rule, SplitRule)
    assignment = assign(named(every), rule)
    assert assignment.splits["a.png"] == rule.of("a.png")
    assert assignment.notices == (f"{FILE}: 2 images lie in no folder, and are split by file name: a.png, b.png.",)
    (notice,) = assign(named(every[:-1]), parse_split(f"{HALVES},group=regex:^(v.*)/")).notices
    assert notice == f"{FILE}: 1 image does not match ^(v.*)/, and is split by file name: a.png."
    with pytest.raises(InvalidConfig, match=r"group=folder: no image lies in a folder \(\"a.png\"\)"):
        assign(named(["a.png", "b.png"]), rule)


def test_a_field_that_no_chosen_image_has_is_told() -> None:
    assignment = assign(named([f"{number}.png" for number in range(40)]), SplitRule(0.4, 0.3, 0.3, group="patient"))
    assert any("40 images have no patient, and are split by file name" in notice for notice in assignment.notices)


def test_a_pattern_that_backtracking_never_ends_on_ends() -> None:
    read = named([f"{'a' * 900}{number}b" for number in range(3)])
    assert groups_of(read, "regex:^((?:a+)+)[0-9]b$") == ["a" * 900] * 3


def test_the_folds_of_one_dataset_are_each_test_once_and_val_once() -> None:
    read = named([f"{number}.png" for number in range(60)])
    seen: dict[str, list[str]] = {}
    for number in range(1, 6):
        for name, split in assign(read, FoldRule(number, 5, seed=4)).splits.items():
            seen.setdefault(name, []).append(split)
    assert all(sorted(splits) == ["test", "train", "train", "train", "val"] for splits in seen.values())
    for name, splits in seen.items():
        fold = int(fraction(name, 4) * 5)
        assert (splits[fold], splits[fold - 1]) == (
            "test",
            "val",
        )  # the fold before has it as val; of the first, the last


def test_an_empty_fold_is_refused_and_not_filled() -> None:
    with pytest.raises(InvalidDataset, match=r"^--split: fold=1/5: the 2 images leave .* empty; take fewer folds"):
        assign(named(["a.png", "b.png"]), FoldRule(1, 5))
    with pytest.raises(InvalidDataset, match=r"in their groups \(group=folder\) leave"):
        assign(named(frames(1, 40)), FoldRule(1, 5, group="folder"))


@pytest.mark.parametrize("group", ["folder", "regex:^(video_[0-9]+)/"])
def test_groups_of_names_that_leave_a_split_empty_are_refused_with_a_seed_that_leaves_none(group: str) -> None:
    read = named(frames(4, 5))
    with pytest.raises(
        InvalidDataset, match=r"^the form: the 4 groups \(group=.*\) leave .* empty; give seed="
    ) as refused:
        assign(read, parse_split(f"train=0.8,val=0.1,test=0.1,group={group}"), "the form")
    seed = str(refused.value).partition("seed=")[2].partition(",")[0]
    assignment = assign(read, parse_split(f"train=0.8,val=0.1,test=0.1,seed={seed},group={group}"))
    assert min(assignment.counts.values()) > 0
    assert assignment.notices == ()


def test_too_few_groups_of_names_for_each_split_are_refused() -> None:
    with pytest.raises(
        InvalidDataset, match=r"the 2 groups \(group=folder\) leave .* empty; give larger fractions, or images of more"
    ):
        assign(named(frames(2, 5)), parse_split(f"{HALVES},group=folder"))


DATES = ["2025-12-31T23:59:59Z", "2026-01-01", "2026-02-01T00:00:00+01:00", "2026-02-01 00:00:00", "soon", None]


def test_dates_split_and_what_has_none_is_train_and_counted() -> None:
    names = [f"{number}.png" for number in range(len(DATES))]
    assignment = assign(named(names, DATES), parse_split("time=taken,val=2026-01-01,test=2026-02-01"))
    assert list(assignment.splits.values()) == ["train", "val", "val", "test", "train", "train"]
    assert assignment.notices == (f"{FILE}: 2 images have no date in taken, and are train: 4.png, 5.png.",)


def test_dates_that_leave_a_split_empty_are_refused() -> None:
    read = named(["a.png", "b.png"], ["2026-01-05", "2026-01-06"])
    with pytest.raises(InvalidDataset, match=r"the dates leave train and test empty; .* are from 2026-01-05T00"):
        assign(read, parse_split("time=taken,val=2026-01-01,test=2026-02-01"))
    with pytest.raises(InvalidDataset, match=r'no image has a date in "taken" \(but "soon"\)'):
        assign(named(["a.png"], ["soon"]), parse_split("time=taken,val=2026-01-01,test=2026-02-01"))


def test_a_date_is_read_from_where_a_group_is() -> None:
    images = [image("a.png") | {"metadata": {"taken": "2026-01-05"}}, image("b.png") | {"taken": 7}]
    assert read_file(encoded(document(images)), FILE, None, "taken").images["group"].to_pylist() == ["2026-01-05", "7"]


@given(st.text(max_size=30))
def test_any_text_is_a_date_or_none(text: str) -> None:
    date = parsed_date(text)
    assert date is None or date.tzinfo is UTC


stems = st.text("abc", min_size=1, max_size=3)
names = st.lists(st.tuples(stems, stems).map("/".join), min_size=1, max_size=60, unique=True)
rules = st.sampled_from(
    [f"{HALVES},group=folder", f"{HALVES},group=regex:^(.).*/", "fold=2/3", "fold=3/3,group=folder"]
)


@settings(max_examples=40, deadline=None)
@given(names, st.data())
def test_an_image_never_moves_as_the_dataset_grows(every: list[str], data: st.DataObject) -> None:
    rule = parse_split(data.draw(rules))
    size = data.draw(st.integers(1, len(every)))
    try:
        before, after = assign(named(every[:size]), rule), assign(named(every), rule)
    except InvalidDataset:
        return  # too few for each split, which is refused
    assert isinstance(rule, SplitRule | FoldRule)
    assert not any("stayed empty" in notice for notice in (*before.notices, *after.notices))
    assert {name: after.splits[name] for name in before.splits} == before.splits


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dates().map(str), min_size=3, max_size=40), st.integers(3, 40))
def test_a_date_decides_whatever_else_is_there(dates: list[str], size: int) -> None:
    rule = parse_split("time=taken,val=0500-01-01,test=1500-01-01")
    every = [f"{number}.png" for number in range(len(dates))]
    try:
        before = assign(named(every[:size], [*dates[:size]]), rule)
        after = assign(named(every, [*dates]), rule)
    except InvalidDataset:
        return
    assert {name: after.splits[name] for name in before.splits} == before.splits
