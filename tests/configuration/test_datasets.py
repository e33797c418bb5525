"""Which datasets a run takes: one URI, or a list of URIs and objects, as commands and forms give them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from visionloop.components.snapshot.preflight import FROM_OUTSIDE, preflight
from visionloop.core.errors import InvalidConfig
from visionloop.data.datasets import RunDataset, datasets_text, listed, parameter, parse_datasets

DAY, NIGHT = "s3://data/day", "s3://data/night"


def test_one_dataset_is_its_uri_however_it_is_written() -> None:
    ways: list[Any] = [
        DAY,
        f"{DAY}/",
        [DAY],
        json.dumps([DAY]),
        json.dumps({"uri": DAY}),
        [json.dumps({"uri": DAY, "name": "x"})],
    ]
    for way in ways:
        assert parameter(parse_datasets(way)) == datasets_text(way) == DAY


def test_a_list_gives_names_and_weights() -> None:
    chosen = [DAY, {"uri": f"{NIGHT}/", "weight": 2.0}, {"uri": "s3://other/day", "weight": 0.5}]
    several = parse_datasets(json.dumps(chosen))
    assert several == (
        RunDataset(DAY, "day"),
        RunDataset(NIGHT, "night", 2),
        RunDataset("s3://other/day", "day-2", 0.5),
    )
    assert parse_datasets(parameter(several)) == several == parse_datasets([DAY, *map(json.dumps, chosen[1:])])
    text = datasets_text(json.dumps(chosen))
    assert json.loads(text) == [DAY, {"uri": NIGHT, "weight": 2}, {"uri": "s3://other/day", "weight": 0.5}]
    assert parse_datasets(text) == several
    weighted = parse_datasets({"uri": DAY, "weight": 2} for _ in range(1))
    assert parameter(weighted) == [{"uri": DAY, "name": "day", "weight": 2}]


def test_a_name_that_is_not_given_is_the_last_part_of_the_uri(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    uris: list[object] = [str(folder), "s3://bucket", "s3://x/Day", "s3://y/day", {"uri": "s3://z/a", "name": "day-2"}]
    assert [entry.name for entry in parse_datasets(uris)] == ["a b", "bucket", "Day", "day-3", "day-2"]


def test_a_name_is_of_one_unicode_form() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    (first, second) = parse_datasets([f"s3://x/{decomposed}", f"s3://y/{composed}"])
    assert (first.name, second.name) == (composed, f"{composed}-2")
    assert parse_datasets([{"uri": DAY, "name": decomposed}, NIGHT])[0].name == composed
    with pytest.raises(InvalidConfig, match="two datasets have the name"):
        parse_datasets([{"uri": DAY, "name": composed}, {"uri": NIGHT, "name": decomposed}])


def test_a_sentence_names_at_most_three() -> None:
    assert listed([DAY]) == DAY
    assert listed([DAY, NIGHT]) == f"{DAY} and {NIGHT}"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


WEIGHTS: tuple[Any, ...] = (0, -1, "2", True, None, 1e9, float("nan"), float("inf"), [], 101)

WRONG: list[tuple[Any, str]] = [
    ("[]", "is empty"),
    ("[[]]", "neither a URI nor an object"),
    (json.dumps([[DAY, NIGHT]]), "neither a URI nor an object"),
    ([DAY, json.dumps([NIGHT])], r"--dataset\[1\] is neither a URI nor an object"),
    ("[1]", "neither a URI nor an object"),
    ("[null]", "neither a URI nor an object"),
    ('["s3://data/day"', "not JSON"),
    ("[" * 5000, "not JSON"),
    ('{"uri": "s3://data/day"', "not JSON"),
    ([{"url": DAY}], '"url" is not a field of a dataset; it has uri, name, weight'),
    ([{"name": "day"}], "uri is missing or no text"),
    ([{"uri": 3}], "uri is missing or no text"),
    ([DAY, DAY], "names s3://data/day twice"),
    ([DAY, f"{DAY}/"], "names s3://data/day twice"),
    ([DAY, f"{DAY}/more"], "s3://data/day/more is inside --dataset s3://data/day"),
    (["gs://bucket/day", DAY], "gs:// is not supported"),
    (["", DAY], "is empty"),
    ([f"s3://data/{number}" for number in range(10_000)], "10,000 datasets are more than 100"),
    *(
        ([{"uri": DAY, "name": name}], "can't be a folder's")
        for name in ("", " ", "a/b", "..", ".", "a\\b", "a\x00", "a\nb", " a", "\u202egit", "\ud800", "../x")
    ),
    ([{"uri": DAY, "name": "n" * 101}], "the name has 101 characters"),
    ([{"uri": DAY, "name": 3}], "name is not text"),
    ([{"uri": DAY, "name": "x"}, {"uri": NIGHT, "name": "X"}], 'two datasets have the name "X"'),
    *(([{"uri": DAY, "weight": weight}], "weight is .*give a number above 0 up to 100") for weight in WEIGHTS),
    ('[{"uri": "s3://data/day", "weight": NaN}]', "not JSON"),
    ('[{"uri": "s3://data/day", "weight": 1e999}]', "not JSON|weight is"),
]


@pytest.mark.parametrize(("value", "problem"), WRONG, ids=[f"{number}" for number in range(len(WRONG))])
def test_what_is_wrong_with_the_list_is_one_sentence(value: Any, problem: str) -> None:
    with pytest.raises(InvalidConfig, match=problem) as caught:
        parse_datasets(value)
    assert "--dataset" in str(caught.value) or "URI" in str(caught.value) or "://" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_dataset_that_is_another_one_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    os.symlink(tmp_path / "day", tmp_path / "link")
    with pytest.raises(InvalidConfig, match=r"(day|link) is equal to --dataset"):
        parse_datasets([str(tmp_path / "day"), str(tmp_path / "link")])


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        (json.dumps([DAY, "s3://results/work/x"]), "is around|is equal to|is inside"),
        (json.dumps([DAY, DAY]), "twice"),
        (json.dumps([{"uri": DAY, "weight": -1}]), "weight is -1"),
    ],
)
def test_the_check_before_a_run_covers_each_dataset(dataset: str, problem: str) -> None:
    arguments = {"workspace": "s3://results/work", "model_name": "x", "dataset": dataset}
    with pytest.raises(InvalidConfig, match=problem):
        preflight(arguments, {"model": "yolo11n.yaml"}, FROM_OUTSIDE, {})
