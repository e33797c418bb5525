"""``--where``: what it keeps, and that nothing else is an expression."""

import ast
import itertools
import re
from typing import Any

import pytest
from dice_samples import annotation, dataset, document, file_names, image
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig, InvalidDataset, VisionloopError
from visionloop.data.annotations.content import annotations_hash
from visionloop.data.annotations.filtered import keep
from visionloop.data.annotations.tables import Annotations
from visionloop.data.annotations.where import DEEPEST, LONGEST, parse_where

CLASSES = [{"id": 0, "name": "car"}, {"id": 4, "name": "van"}]


def label(class_id: int, width: float, height: float = 10, **fields: Any) -> dict[str, Any]:
    fields = {"area": None} | fields
    return annotation(class_id=class_id, bbox=[10, 10, width, height], **fields)


IMAGES = [
    image(
        "a.png", split="train", width=100, annotations=[label(0, 5), label(4, 20)], metadata={"source": "night", "n": 3}
    ),
    image(
        "b.png",
        split="val",
        width=200,
        annotations=[label(0, 40, area=7.5)],
        metadata={"source": "day", "wet": True, 'q"\\': 1},
    ),
    image("c.png", split=None, width=300, annotations=[], metadata={}),
    image(
        "d.png",
        split="train",
        width=100,
        annotations=[
            label(4, 8, iscrowd=1, attributes={"worn": True}),
            label(4, 9, attributes={"worn": False, "age": 2.5}),
        ],
        metadata={"a b": "x", "n": -1},
    ),
]


def read(images: list[dict[str, Any]] | None = None) -> Annotations:
    return dataset(document(images or IMAGES, classes=CLASSES)).sorted()


def kept(where: str, images: list[dict[str, Any]] | None = None) -> dict[str, list[float]]:
    """The widths of the boxes that stay, by image."""
    result = keep(read(images), parse_where(where))
    names = result.images["file_name"].to_pylist()
    widths: dict[str, list[float]] = {name: [] for name in names}
    for row, width in zip(result.objects["image"].to_pylist(), result.objects["width"].to_pylist(), strict=True):
        widths[names[row]].append(width / 100)
    return widths


ALL: dict[str, list[float]] = {"a.png": [5, 20], "b.png": [40], "c.png": [], "d.png": [8, 9]}


def only(*names: str, **changed: list[float]) -> dict[str, list[float]]:
    return {name: changed.get(name[0], ALL[name]) for name in (f"{letter}.png" for letter in names)}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("width > 0", ALL),
        ("split == 'train'", only("a", "d")),
        # c states no split, so neither the comparison nor its opposite keeps it.
        ("split != 'train'", only("b")),
        ("not split == 'train'", only("b")),
        ("not split in ('train',)", only("b")),
        ("split not in ['train']", only("b")),
        ("split in ('train', 'val')", only("a", "b", "d")),
        ("split != 'train' or metadata.source == 'night'", only("a", "b")),
        ("not metadata.source == 'night'", only("b")),
        ("metadata.wet", only("b")),
        ("metadata.wet == True", only("b")),
        ("metadata['a b'] == 'x'", only("d")),
        ("metadata['q\"\\\\'] == 1", only("b")),
        ("metadata.n < 2.5", only("d")),
        ("metadata.n in (3, 4.0)", only("a")),
        ("metadata.n == -1 or width == 2e2", only("b", "d")),
        ("100 < width <= 300", only("b", "c")),
        ("width in (100, 5000000000)", only("a", "d")),
        ("width < 3000000000", ALL),
        ("file_name >= 'c.png'", only("c", "d")),
        ("'.pn' in file_name and not 'b' in file_name", only("a", "c", "d")),
        ("height == 900", ALL),
        ("width < height", ALL),
        # Object columns keep objects; an image that loses all of them stays.
        ("class_name == 'car'", only("a", "b", "c", "d", a=[5], d=[])),
        ("class_name != 'car'", only("a", "b", "c", "d", a=[20], b=[])),
        ("box_width >= 9", only("a", "b", "c", "d", a=[20], d=[9])),
        ("box_width > box_height", only("a", "b", "c", "d", a=[20], d=[])),
        ("area == 7.5 or area == 80", only("a", "b", "c", "d", a=[], d=[8])),
        ("iscrowd", only("a", "b", "c", "d", a=[], b=[], d=[8])),
        ("not iscrowd", only("a", "b", "c", "d", d=[9])),
        ("attributes.worn", only("a", "b", "c", "d", a=[], b=[], d=[8])),
        ("not attributes.worn", only("a", "b", "c", "d", a=[], b=[], d=[9])),
        ("attributes.age < 3", only("a", "b", "c", "d", a=[], b=[], d=[9])),
        # The terms of the outermost and count one by one, whatever its parentheses.
        ("split == 'train' and box_width > 8", only("a", "d", a=[20], d=[9])),
        ("((split == 'train') and (box_width > 8 and class_name == 'van'))", only("a", "d", a=[20], d=[9])),
        # One term with both: it keeps objects, and no image goes.
        ("split == 'val' or box_width > 8", only("a", "b", "c", "d", a=[20], d=[9])),
        ("not (split == 'train' and box_width > 8)", only("a", "b", "c", "d", a=[5], d=[8])),
        ("width == 100 or\n metadata.n == 3", only("a", "d")),
        (f"box_width in {tuple(range(30))}", only("a", "b", "c", "d", b=[])),
    ],
)
def test_what_an_expression_keeps(where: str, expected: dict[str, list[float]]) -> None:
    assert kept(where) == expected


def test_what_is_left_out_is_counted() -> None:
    result = keep(read(), parse_where("width < 300 and box_width == 5"))
    assert result.notices[-1] == (
        "--where leaves out 1 of 4 images and 4 of 5 objects; 2 of the images that stay lose all their objects and are background."
    )
    result.images.validate(full=True)
    result.objects.validate(full=True)
    assert result.images["position"].to_pylist() == [0, 1, 3]  # as in the file, which sentences name


def test_what_keeps_everything_is_the_same_dataset() -> None:
    whole = read()
    result = keep(whole, parse_where("width > 0 and box_width > 0"))
    assert annotations_hash(result) == annotations_hash(whole)
    assert result.notices[-1] == "--where leaves out 0 of 4 images and 0 of 5 objects."


def test_findings_and_shared_images_of_what_is_left_out_go_with_it() -> None:
    images = [*IMAGES, image("e.png", width=500, split="val", annotations=[label(0, 5, class_name="van")])]
    whole = read(images)
    assert {entry.file_name for entry in whole.findings} >= {"e.png"}
    assert "e.png" not in {entry.file_name for entry in keep(whole, parse_where("width < 500")).findings}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", "column 1: the expression ends too early"),
        ("   ", "column 1: the expression ends too early"),
        ("split = 'train'", "column 7: not an expression of Python"),
        ("split == 'train", "column 10: not an expression of Python (unterminated string literal"),
        ("split == 'train' &", "column 19: the expression ends too early"),
        ("open('/etc/passwd')", "column 1: a call is not allowed"),
        ("width > 1 and file_name.startswith('a')", "column 15: a call is not allowed"),
        ("__import__('os').system('x')", "column 1: a call is not allowed"),
        ("metadata.source.name == 'a'", "column 1: a chain of names is not allowed"),
        ("split.x == 'a'", 'column 1: "split" has no names of its own'),
        ("metadata['a']['b'] == 1", "column 1: an index is not allowed"),
        ("metadata[0] == 1", 'column 1: "metadata" has no names of its own'),
        ("metadata[''] == 1", "column 1: the name is empty"),
        ("metadata == 'a'", "column 1: metadata holds several values; name one, such as metadata.source"),
        ("metadata.class == 1", "column 10: not an expression"),
        ("clas_name == 'a'", 'column 1: "clas_name" is not a column (did you mean class_name?); the columns are split'),
        ("labeled_by == 'x'", "column 1: labeled_by says who labelled an image"),
        ("width > 1 and metadata.reviewed_at > '2020'", "column 15: reviewed_at says who"),
        ("attributes['labeled_at'] == ''", "column 1: labeled_at says who"),
        ("width + 1 > 2", "column 1: arithmetic is not allowed"),
        ("width > 'a'", "column 1: width, a number, is compared with a text; compare it with a number"),
        ("'a' < box_width", "column 1: box_width, a number, is compared with a text"),
        ("split == 1", "column 1: split, a text, is compared with a number; compare it with a text"),
        ("class_name in (1, 2)", "column 1: class_name, a text, is compared with a number"),
        ("split == width", "column 1: split, a text, is compared with a number"),
        ("iscrowd == 1", "column 1: iscrowd, true or false, is compared with a number"),
        ("metadata.wet < True", "column 1: true and false have no order"),
        ("iscrowd > False", "column 1: true and false have no order"),
        ("width in (1, 'a')", "column 10: the list holds texts and numbers"),
        ("width in ()", "column 10: the list is empty"),
        ("split in 'train'", "column 10: in needs a list"),
        ("5 in width", "column 6: in needs a list such as ('a', 'b'), or a text before it: 'night' in width"),
        ("'5' in width", "column 8: width is a number, and holds no text"),
        ("split in (file_name,)", "column 11: this is not allowed here"),
        ("(1, 2) == width", "column 1: a list stands behind in alone"),
        ("width", "column 1: width is a number, not a condition"),
        ("split or width > 1", "column 1: split is a text, not a condition"),
        ("True", "column 1: a value alone is not a condition"),
        ("1 == 1", "column 1: two values are compared"),
        ("width == None", "column 10: None is not a value"),
        ("width is 5", "column 1: is is not allowed; compare with == or !="),
        ("width == b'a'", "column 10: this value is not allowed"),
        ("width == 1j", "column 10: this value is not allowed"),
        ("width == -'a'", "column 10: this value is not allowed"),
        ("width == --1", "column 10: this is not allowed here"),
        ("width < 1e999", "column 9: the number is too large"),
        ("width < 99999999999999999999", "column 9: the number is too large"),
        ("split == '\\ud800'", "column 10: the text holds half a character"),
        ("metadata['\\ud800'] == 1", "column 1: the name holds half a character"),
        ("split == f'{width}'", "column 10: a text with values in it"),
        ("width if width > 1 else 2", "column 1: if and else is not allowed"),
        ("(lambda: 1) == 1", "column 2: a function is not allowed"),
        ("[x for x in width] == 1", "column 1: a loop is not allowed"),
        ("(y := 1) == width", "column 2: an assignment is not allowed"),
        ("{'a': 1} == width", "column 1: a mapping is not allowed"),
        ("split == 'ä' or mäh == 1", 'column 17: "mäh" is not a column'),
        ("a" * (LONGEST + 1), "4,001 characters are more than 4,000"),
        ("(" * 10_000 + "width > 1" + ")" * 10_000, "20,009 characters are more than 4,000"),
        ("(" * 300 + "width > 1" + ")" * 300, "not an expression of Python (too many nested parentheses)"),
        ("not " * (DEEPEST + 2) + "iscrowd", f"nested deeper than {DEEPEST} levels"),
        ("not " * 990 + "iscrowd", "--where, column "),
        ("-" * 3000 + "1 < width", "--where, column "),
        ("width > 1 and split == '\ud800'", "column 25: half a character"),
        ("width > 1\0", "--where, column "),
    ],
)
def test_anything_else_is_refused_with_its_column(where: str, expected: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        parse_where(where)
    assert expected in str(error.value)
    assert str(error.value).startswith("--where")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            "metadata.sorce == 'a'",
            "no image of annotations_detection.json has metadata.sorce (did you mean metadata.source?); there are a b, n, q",
        ),
        ("attributes['no such'] == 'a'", "has attributes['no such']; there are age, worn."),
        (
            "metadata.source > 3",
            "column 1: metadata.source, a text, is compared with a number; compare it with a text.",
        ),
        ("metadata.n == 'a'", "metadata.n, a number, is compared with a text"),
        ("'a' in metadata.n", "metadata.n, a number, is compared with a text"),
        ("metadata.wet < metadata.wet", "true and false have no order"),
        ("metadata.source", "metadata.source is a text in annotations_detection.json, not a condition"),
        ("width < 5", 'annotations_detection.json: --where "width < 5" keeps none of the 4 images'),
    ],
)
def test_what_does_not_fit_the_dataset_is_refused(where: str, expected: str) -> None:
    with pytest.raises(InvalidDataset, match=re.escape(expected)):
        keep(read(), parse_where(where))


@pytest.mark.parametrize(
    ("values", "words"),
    [(["a", 1], "a text and a number"), ([True, 1], "true or false and a number"), ([[1]], "a list or an object")],
)
def test_a_value_of_several_kinds_is_refused(values: list[Any], words: str) -> None:
    images = [image(f"{index}.png", index, metadata={"x": value}) for index, value in enumerate(values)]
    with pytest.raises(InvalidDataset, match=f"metadata.x in .* is {words}; a column needs values of one kind"):
        kept("metadata.x == 'a'", images)


def test_whole_numbers_are_compared_as_such() -> None:
    images = [image(f"{index}.png", index, metadata={"id": 2**53 + index}) for index in range(3)]
    assert list(kept(f"metadata.id == {2**53 + 1}", images)) == ["1.png"]
    assert list(kept(f"metadata.id in [{2**53 + 1}]", images)) == ["1.png"]


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("metadata.taken > 1.5e18", ["late.png"]),
        ("metadata.taken == 1772000000000000000.0", []),
        ("metadata.taken in (0.5, 1772000000000000001)", ["late.png"]),
        ("metadata.taken in (0.5, 5.0)", ["early.png"]),
        ("metadata.taken > metadata.half", ["early.png", "late.png"]),
        ("metadata.taken > box_width", ["late.png"]),
        ("metadata.half != 9007199254740993", ["early.png", "late.png"]),
        ("metadata.half in (9007199254740993, 0.5)", ["early.png", "late.png"]),
        ("width < 9007199254740993", ["early.png", "late.png"]),
    ],
)
def test_a_large_whole_number_is_compared_with_a_fraction(where: str, names: list[str]) -> None:
    """Such as nanoseconds since 1970, which no float holds to the last digit."""
    images = [
        image("early.png", 1, annotations=[label(0, 20)], metadata={"taken": 5, "half": 0.5}),
        image("late.png", 2, annotations=[label(0, 20)], metadata={"taken": 1772000000000000001, "half": 0.5}),
    ]
    widths = kept(where, images) if names else {}
    if not names:
        with pytest.raises(InvalidDataset, match="keeps none"):
            kept(where, images)
    elif "box_width" in where:
        assert [name for name, boxes in widths.items() if boxes] == names
    else:
        assert list(widths) == names


pieces = st.sampled_from(
    [
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "and",
        "or",
        "not",
        "in",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "=",
        "-",
        "+",
        "0",
        "1.5",
        "1e999",
        "'train'",
        '"a"',
        "split",
        "width",
        "class_name",
        "iscrowd",
        "metadata.source",
        "metadata",
        "attributes.x",
        "attributes['y']",
        "None",
        "True",
        "lambda",
        ":",
        "if",
        "else",
        "for",
        "x",
        "is",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(pieces, max_size=12).map(" ".join) | st.text(max_size=20))
def test_any_text_is_an_expression_or_refused_in_one_sentence(text: str) -> None:
    refusal = None
    try:
        keep(read(), parse_where(text))
    except VisionloopError as error:
        refusal = error
    assert refusal is None or (refusal.exit_code in (65, 78) and "\n" not in str(refusal))


VALUES: list[Any] = [None, "a", "b"]
atoms = st.sampled_from(["split == 'train'", "metadata.x == 'a'", "metadata.x in ('b',)", "width < 50"])
expressions = st.recursive(
    atoms,
    lambda inner: (
        st.builds("({}) and ({})".format, inner, inner)
        | st.builds("({}) or ({})".format, inner, inner)
        | st.builds("not ({})".format, inner)
    ),
    max_leaves=5,
)


def sql(node: str, row: dict[str, Any]) -> bool | None:
    """SQL's three-valued logic, written down once more."""

    def value(part: Any) -> bool | None:
        if isinstance(part, ast.BoolOp):
            parts = [value(entry) for entry in part.values]
            decisive = isinstance(part.op, ast.Or)
            return decisive if decisive in parts else None if None in parts else not decisive
        if isinstance(part, ast.UnaryOp):
            inner = value(part.operand)
            return None if inner is None else not inner
        name = part.left.id if isinstance(part.left, ast.Name) else part.left.attr
        literal = ast.literal_eval(part.comparators[0])
        if row[name] is None:
            return None
        if isinstance(part.ops[0], ast.Eq):
            return bool(row[name] == literal)
        return bool(row[name] in literal if isinstance(part.ops[0], ast.In) else row[name] < literal)

    return value(ast.parse(node, mode="eval").body)


@settings(max_examples=60, deadline=None)
@given(expressions)
def test_a_value_that_is_not_there_is_as_in_sql(where: str) -> None:
    rows = [
        {"split": split, "x": value, "width": width}
        for split, value, width in itertools.product(("train", None), VALUES, (10, 90))
    ]
    images = [
        image(f"{index:02d}.png", index, split=row["split"], width=row["width"], metadata={"x": row["x"]})
        for index, row in enumerate(rows)
    ]
    expected = [f"{index:02d}.png" for index, row in enumerate(rows) if sql(where, row)]
    if expected:
        assert list(kept(where, images)) == expected


@given(file_names)
@settings(max_examples=30, deadline=None)
def test_a_text_is_found_as_it_is(name: str) -> None:
    assert list(kept(f"file_name == {name!r}", [image(name), image("other")])) == (
        [name, "other"] if name == "other" else [name]
    )
