"""The program that loads a registered model as a machine without Visionloop does. It is run by its path, and imports nothing of ours.

Its argument is a JSON object: ``model``, the model's folder; ``modules``, the names of the top-level modules, and ``distributions``,
those of the distributions, that the model's requirements bring; ``archive``, the file of the modules that the model carries.
"""

import json
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any


class Restricted:
    """Finds the modules of the standard library, of the requirements and of the model's archive, and no others."""

    def __init__(self, finders: list[Any], asked: dict[str, Any]) -> None:
        """``finders`` are those that found modules so far."""
        self.finders = finders
        self.modules = {*asked["modules"], *sys.stdlib_module_names}
        self.distributions = set(asked["distributions"])
        self.archive = asked["archive"]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A module of the requirements as ever; any other one from the archive alone."""
        top = name.partition(".")[0]
        # What sysconfig reads is named after the machine, and stands in no list.
        if top in self.modules or top.startswith("_sysconfigdata_"):
            specs = (finder.find_spec(name, path, target) for finder in self.finders)
            return next((spec for spec in specs if spec is not None), None)
        return PathFinder.find_spec(name, [self.archive] if name == top else path) if self._has_archive() else None

    def find_distributions(self, context: Any) -> Iterator[Distribution]:
        """The distributions of the requirements."""
        for found in PathFinder.find_distributions(context):
            if _canonical(found.metadata["Name"] or "") in self.distributions:
                yield found

    def invalidate_caches(self) -> None:
        """As importlib asks for."""
        PathFinder.invalidate_caches()

    def _has_archive(self) -> bool:
        return any(Path(entry) == Path(self.archive) for entry in sys.path)


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def main() -> None:
    """Loads the model, and has it answer its own input example."""
    asked = json.loads(sys.argv[1])
    sys.meta_path[:] = [Restricted(list(sys.meta_path), asked)]
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(asked["model"])
    example = json.loads(Path(asked["model"], "input_example.json").read_text(encoding="utf-8"))
    answers = model.predict(example)
    if len(answers) != len(example):
        sys.exit(f"it answers {len(answers)} of {len(example)} images")


if __name__ == "__main__":
    main()
