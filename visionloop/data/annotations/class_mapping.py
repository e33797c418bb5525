"""``--classes``: which of a dataset's classes are trained, ignored or dropped, and what they are called."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import structs

from visionloop.core.encodings import is_half
from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data import yaml_texts
from visionloop.data.annotations.classes import IGNORED, Class, wrong_class_name
from visionloop.data.annotations.tables import OBJECTS, Annotations, column
from visionloop.data.sentences import printable, shown

#: A valid mapping, for errors.
EXAMPLE = '{"drop": ["shadow"], "rename": {"lorry": "truck"}}'

#: The most bytes of a mapping.
LARGEST = 2**20


class ClassMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What becomes of a dataset's classes, by its own names, in this order; every field is optional.

    Attributes:
        ignore: The objects of these act as crowd regions: left out of training labels, and nothing that
            evaluation looks for.
        drop: The objects of these go; their images stay.
        keep: Where given, every class that neither this nor ``ignore`` names is dropped.
        rename: New names by old ones. Classes of one new name are one class.
    """

    ignore: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] | None = None
    rename: Mapping[str, str] = {}

    def canonical(self) -> dict[str, Any]:
        """The mapping as a JSON object, for a stage's key; the order of names means nothing."""
        value: dict[str, Any] = {}
        for name in ("ignore", "drop", "keep"):
            names = getattr(self, name)
            if names or (name == "keep" and names is not None):
                value[name] = sorted(set(names))
        if self.rename:
            value["rename"] = dict(sorted(self.rename.items()))
        return value

    def text(self) -> str:
        """The mapping as JSON, for an engine's form."""
        return json.dumps(self.canonical(), ensure_ascii=False)

    def fate(self, name: str) -> str | None:
        """The new name of a class; ``ignore`` or ``drop`` has none."""
        return None if name in self.ignore or self.drops(name) else self.rename.get(name, name)

    def drops(self, name: str) -> bool:
        """Whether a class's objects go."""
        if name in self.ignore:
            return False
        return name in self.drop or (self.keep is not None and name not in self.keep)


def parse_classes(text: str, where: str = "--classes") -> ClassMapping:
    """Reads a mapping from JSON or YAML; every scalar of YAML is a text as it is written.

    Raises:
        InvalidConfig: If it is neither, has a field or a key twice, leaves no class of any dataset, or has a new name that no class may have.
    """
    if len(text.encode(errors="replace")) > LARGEST:
        raise InvalidConfig(f"{where}: more than {LARGEST:,} bytes; write a shorter mapping.")
    try:
        value: Any = json.loads(text, object_pairs_hook=_pairs)
    except (json.JSONDecodeError, RecursionError):
        value = _yaml(text, where)
    except ValueError as error:
        raise InvalidConfig(printable(f"{where}: {error}; give each once.")) from None
    try:
        mapping = msgspec.convert({} if value in (None, "") else value, ClassMapping)
    except msgspec.ValidationError as error:
        fields = ", ".join(ClassMapping.__struct_fields__)
        raise InvalidConfig(
            printable(f"{where}: {str(error).rstrip('.')}; the fields are {fields}, as in {EXAMPLE}.")
        ) from None
    names = [*mapping.ignore, *mapping.drop, *(mapping.keep or ()), *mapping.rename]
    if half := next((name for name in names if is_half(name)), None):
        raise InvalidConfig(f"{where}: {half[:60]!a} holds half a character (a surrogate); correct the name.")
    if mapping.keep is not None and set(mapping.keep) <= {*mapping.ignore, *mapping.drop}:
        raise InvalidConfig(
            f"{where}: keep names no class, or none that ignore and drop leave, so that no class is left; name those to train."
        )
    for name in mapping.rename.values():
        if wrong := wrong_class_name(name):
            raise InvalidConfig(printable(f"{where}: rename: the name {wrong}; give another."))
    return mapping


def map_classes(read: Annotations, mapping: ClassMapping, option: str = "--classes") -> Annotations:
    """The dataset with other classes, in the order in which the dataset has them; a notice counts what is ignored and dropped.

    Raises:
        InvalidDataset: If the mapping names a class that the dataset does not have, leaves none, or merges classes whose keypoints
            differ.
    """
    _refuse_unknown(read, mapping, option)
    first: dict[str, Class] = {}
    ids: dict[int, int] = {}
    dropped: list[Class] = []
    ignored: list[Class] = []
    for entry in sorted(read.classes, key=lambda entry: entry.id):
        name = mapping.fate(entry.name)
        if name is None:
            (dropped if mapping.drops(entry.name) else ignored).append(entry)
            continue
        kept = first.setdefault(name, entry)
        _refuse_other_keypoints(read, kept, entry, name, option)
        ids[entry.id] = kept.id
    if not first:
        raise InvalidDataset(
            f"{read.file}: {option} leaves none of the {len(read.classes)} classes; name those to train in keep, or drop fewer."
        )
    names = {entry.id: name for name, entry in first.items()}
    classes = tuple(structs.replace(entry, name=names[entry.id]) for entry in read.classes if entry.id in names)
    objects, counts = _objects(read, ids, [entry.id for entry in ignored], [entry.id for entry in dropped])
    notices = [*_notices(mapping, ignored, dropped, first, ids, counts, len(classes)), *_overruled(mapping)]
    said = tuple(printable(f"{option}: {notice}") for notice in notices)
    return replace(read, classes=classes, objects=objects, notices=(*read.notices, *said))


def _objects(
    read: Annotations, ids: Mapping[int, int], ignored: Sequence[int], dropped: Sequence[int]
) -> tuple[pa.Table, dict[int, int]]:
    """The objects with the ids of the classes that stay, and how many each class had. An ignored one is a crowd of no class."""
    class_id = column(read.objects, "class_id")
    numbers, counts = np.unique(class_id, return_counts=True)
    new = class_id.copy()
    for old, kept in ids.items():
        if old != kept:
            new[class_id == old] = kept
    aside = np.isin(class_id, ignored)
    gone = np.isin(class_id, dropped)
    if read.task == "classification":
        gone |= aside  # an image's label is not a region that could be passed over
    new[aside] = IGNORED
    crowd = np.asarray(read.objects["iscrowd"].combine_chunks()) | aside
    table = read.objects
    for name, values in (("class_id", new.astype(np.int32)), ("iscrowd", crowd)):
        at = OBJECTS.get_field_index(name)
        table = table.set_column(at, OBJECTS.field(at), pa.array(values))
    if gone.any():
        table = table.filter(pa.array(~gone)).combine_chunks()
    return table, dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _notices(
    mapping: ClassMapping,
    ignored: Sequence[Class],
    dropped: Sequence[Class],
    first: Mapping[str, Class],
    ids: Mapping[int, int],
    counts: Mapping[int, int],
    left: int,
) -> Iterable[str]:
    for words, classes in (("ignores", ignored), ("drops", dropped)):
        if classes:
            objects = sum(counts.get(entry.id, 0) for entry in classes)
            as_what = ", whose {:,} objects act as crowd regions" if words == "ignores" else " with {:,} objects"
            yield f"{words} {_listed([shown(entry.name) for entry in classes])}{as_what.format(objects)}."
    merged = {name: sum(kept == entry.id for kept in ids.values()) for name, entry in first.items()}
    renamed = [
        f"{shown(old)} to {shown(new)}"
        for old, new in mapping.rename.items()
        if old != new and mapping.fate(old) is not None
    ]
    if renamed:
        yield f"renames {_listed(renamed)}."
    if together := [f"{shown(name)} ({number} classes)" for name, number in merged.items() if number > 1]:
        yield f"merges into {_listed(together)}."
    yield f"{left} {'class is' if left == 1 else 'classes are'} left."


def _overruled(mapping: ClassMapping) -> Iterable[str]:
    """What a mapping says of a class that an earlier field has decided."""
    later = {"drop": mapping.drop, "keep": mapping.keep or (), "rename": mapping.rename}
    for name in sorted({name for names in later.values() for name in names}):
        said = [field for field, names in later.items() if name in names]
        decided = "ignore" if name in mapping.ignore else "drop" if name in mapping.drop else ""
        if not decided and mapping.drops(name):
            yield f"{shown(name)} is not in keep, so its {said[-1]} counts for nothing."
        elif decided and (passed := [field for field in said if field != decided]):
            yield f"{shown(name)} is in {decided}, so what {' and '.join(passed)} says of it counts for nothing."


def _refuse_unknown(read: Annotations, mapping: ClassMapping, option: str) -> None:
    existing = {entry.name for entry in read.classes}
    fields = {"ignore": mapping.ignore, "drop": mapping.drop, "keep": mapping.keep or (), "rename": mapping.rename}
    for field, names in fields.items():
        unknown = next((name for name in names if name not in existing), None)
        if unknown is not None:
            raise InvalidDataset(
                printable(
                    f"{read.file}: {option}: {field}: {shown(unknown)} is not a class of the dataset{_nearest(unknown, existing)}; "
                    f"it has {_listed(sorted(map(shown, existing)), 10)}."
                )
            )


def _nearest(name: str, existing: Collection[str]) -> str:
    folded = {entry.casefold(): entry for entry in existing}
    near = difflib.get_close_matches(name.casefold(), folded, 1)
    return f" (did you mean {shown(folded[near[0]])}?)" if near else ""


def _refuse_other_keypoints(read: Annotations, kept: Class, entry: Class, name: str, option: str) -> None:
    if read.task == "pose" and (kept.keypoints, kept.flip_pairs) != (entry.keypoints, entry.flip_pairs):
        raise InvalidDataset(
            printable(
                f"{read.file}: {option}: {shown(kept.name)} and {shown(entry.name)} can't be one class {shown(name)}: their "
                "keypoints differ; keep them apart."
            )
        )


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated keys."""
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"{shown(key)} is written twice")
        value[key] = item
    return value


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml_texts.load(text)
    except ValueError as error:
        raise InvalidConfig(
            printable(f"{where}: neither JSON nor YAML ({error}); write the fields as in {EXAMPLE}.")
        ) from None


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
