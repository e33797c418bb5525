"""``visionloop demo-loop``: a model's life after the demo, by the commands that a person types."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visionloop.core.errors import Defect, InvalidDataset, by_code
from visionloop.core.logs import notice
from visionloop.pipelines import services
from visionloop.pipelines.cli.demo import WORKSPACE, set_aside, train_sample, write_dataset
from visionloop.pipelines.cli.output import Output, aligned, show
from visionloop.pipelines.sample import NAME, Labels
from visionloop.pipelines.sample.scenes import CLASS_NAMES
from visionloop.pipelines.services.folder import find_folder

#: What the gate asks of each: overall nearly as good as the champion, and no class much worse; other classes are passed over.
GATE = {"epsilon": 0.1, "max_class_drop": 0.2, "incomparable": "shared"}

#: A few epochs from the champion's weights: gently, or what it has learned is lost first.
SETTINGS = ("imgsz=160", "batch=16", "optimizer=AdamW", "lr0=0.001", "warmup_epochs=0", "mosaic=0", "fliplr=0")

#: The version that all start from, and that the rollback goes back to.
FIRST = f"{NAME}/1"


@dataclass(frozen=True)
class Case:
    """A second version of the sample dataset, and how its training must end.

    Attributes:
        name: Of the case, and the end of the dataset's name.
        about: What is different, for people.
        epochs: Of the training.
        verdict: The gate's; None where the data are refused before.
        said: What the reason says.
        train: How many scenes train has.
        labels: How digits are named.
    """

    name: str
    about: str
    epochs: int
    verdict: str | None
    said: str
    train: int = 400
    labels: Labels = field(default_factory=Labels)

    @property
    def dataset(self) -> str:
        """Its dataset's URI."""
        return f"s3://{services.DATASETS_BUCKET}/{NAME}-{self.name}"


CASES = (
    Case(
        "mistaken",
        "in train every seven is labelled as a one",
        epochs=2,
        verdict="keep",
        said="worse than max_class_drop",
        labels=Labels(mistaken={7: 1}),
    ),
    Case(
        "damaged",
        "boxes of five scenes lie outside their picture",
        epochs=2,
        verdict=None,
        said="reaches outside the image",
        labels=Labels(outside=5),
    ),
    Case(
        "more",
        "200 more scenes to learn from, and zero is called naught",
        epochs=4,
        verdict="promote",
        said="is better than the champion's",
        train=600,
        labels=Labels(names=("naught", *CLASS_NAMES[1:])),
    ),
)


def demo_loop(output: Output = None) -> None:
    """Retrains the demo's model on three changed datasets (one better, one worse, one refused), then exports it, verifies it, predicts with it and rolls it back.

    Trains the demo's model first, unless it is there; the second time everything is reused.

    Example: visionloop demo-loop
    """
    set_aside(os.environ)
    rows: list[dict[str, Any]] = []
    with services.session() as embedded:
        os.environ.update(embedded.environment())
        train_sample("detection", None)
        for number, case in enumerate(CASES, 1):
            notice(f"Dataset {number} of {len(CASES)}, {case.name}: {case.about}.")
            write_dataset(case.dataset, "detection", train=case.train, labels=case.labels)
            rows.append(_retrained(case))
        _after(f"{NAME}/{rows[-1]['version']}")
    table = [(row["case"], row["verdict"] or "refused", row["reason"]) for row in rows]
    show({"cases": rows, "champion": FIRST}, aligned(("DATASET", "VERDICT", "REASON"), table), output)


def _retrained(case: Case) -> dict[str, Any]:
    """Trains on a case's dataset and compares the end with the expected one. Raises Defect where they differ."""
    settings = (f"model=models:/{FIRST}", f"epochs={case.epochs}", *SETTINGS)
    command = [
        *("run", "train", "--dataset", case.dataset, "--workspace", WORKSPACE, "--model-name", NAME),
        *("--gate", json.dumps(GATE), *(word for setting in settings for word in ("--set", setting))),
    ]
    code, printed, said = _run(command, (0, InvalidDataset.exit_code))
    summary: Mapping[str, Any] = json.loads(printed) if code == 0 else {}
    verdict, reason = summary.get("verdict"), str(summary.get("reason") or said)
    if verdict != case.verdict or case.said not in reason:
        expected = case.verdict or "refused"
        raise Defect(f"demo-loop: {case.name} ended with {verdict or 'refused'} ({reason}); {expected} was expected.")
    version, alias = summary.get("version"), summary.get("alias")
    return {"case": case.name, "verdict": verdict, "reason": reason, "version": version, "alias": alias}


def _after(model: str) -> None:
    """What is done with a registered model: an export, the look at where it comes from, predictions, and the way back."""
    exports = find_folder(None).path / "exports"
    pictures = f"s3://{services.DATASETS_BUCKET}/{NAME}/images/test/000001.png"
    for command in (
        ["model", "verify", model],
        ["model", "export", model, "--format", "onnx", "--out", str(exports)],
        ["predict", model, pictures],
        ["model", "rollback", NAME, "--to", FIRST.rpartition("/")[2], "--by", "demo-loop", "--reason", "to show it"],
    ):
        _run([*command, "--output", "text"])


def _run(words: Sequence[str], codes: Sequence[int] = (0,)) -> tuple[int, str, str]:
    """Runs a command of ``visionloop`` as a person would, and shows it.

    Returns:
        Its exit code, what it printed, and its last line for people.

    Raises:
        VisionloopError: That of the command, if it ends with another code.
    """
    notice(f"$ {shlex.join(['visionloop', *words])}")
    # The command of this very installation, whatever PATH has.
    program = "import sys; sys.argv[0] = 'visionloop'; from visionloop.pipelines.cli import main; main()"
    lines, printed = [""], b""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None  # noqa: S101 (both are pipes)
        assert process.stderr is not None  # noqa: S101
        # Little is printed, and that at the end: it fits into its pipe meanwhile.
        for line in process.stderr:
            lines.append(line.decode(errors="replace").rstrip())
            sys.stderr.write(f"{lines[-1]}\n")
        printed = process.stdout.read()
    text = printed.decode(errors="replace").strip()
    if process.returncode not in codes:
        raise by_code(process.returncode)(lines[-1])
    if "--output" in words:
        sys.stderr.write(f"{text}\n")
    return process.returncode, text, lines[-1]
