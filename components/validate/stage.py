"""The validate stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from visionloop.components.snapshot.baseline import SCALAR
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.snapshot.several import changed_since
from visionloop.components.validate import drift
from visionloop.components.validate.looked import PART, Looked, look, look_at_shard, merged
from visionloop.components.validate.options import resolve_checks, training_size
from visionloop.components.validate.page import render
from visionloop.components.validate.report import Report, ReportedFinding
from visionloop.core import receipts, runs, shards
from visionloop.core.errors import DatasetChanged, InvalidConfig, InvalidDataset, InvalidReceipt
from visionloop.core.logs import notice
from visionloop.core.policy import POLICIES, QUARANTINE_LIMIT
from visionloop.core.receipts import Parameter
from visionloop.core.shards import SHARD, SHARDS, Wanted
from visionloop.core.stage import Attempt, Computed, Context, Resolution, Stage, argument
from visionloop.data.annotations import presence, quality
from visionloop.data.annotations.checks import too_small, whole
from visionloop.data.annotations.codes import Checks
from visionloop.data.annotations.difference import difference
from visionloop.data.annotations.drift import findings as drift_findings
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.quality import IMGSZ
from visionloop.data.annotations.tables import SPLITS, Annotations, named
from visionloop.data.sentences import with_more

MODES = ("annotations", "headers", "full")
ON_ERROR = ("fail", "quarantine")


@dataclass(frozen=True)
class Arguments:
    """The arguments of validate."""

    snapshot: str = argument("URI of the snapshot's receipt.")
    mode: str = argument(
        "annotations (no image is read), headers, or full (every image is decoded).", default="headers"
    )
    on_error: str = argument("fail, or quarantine: leave the images with errors out.", default="fail")
    checks: str | None = argument(
        "What is another severity or threshold than by default: a file (path or URI), or a JSON object such as "
        '{"same_bytes": "warning", "close_boxes": {"threshold": 0.95}}.',
        default=None,
    )
    settings: str | None = argument(
        "The training's settings as a JSON object: boxes are tiny or huge at its imgsz.", default=None
    )
    shards: str | None = argument(SHARDS, default=None)
    shard: str | None = argument(SHARD, default=None)


@dataclass(frozen=True)
class Loaded:
    """What ``resolve`` read: the snapshot, what the run wants of the checks, and what the snapshot is compared with."""

    snapshot: Snapshot
    checks: Checks
    baseline: drift.Baseline | None = None
    wanted: Wanted = Wanted()


class ValidateStage:
    """Checks annotations and images before anything expensive starts."""

    name = "validate"
    logic_version = 5
    policy = POLICIES["validate"]
    arguments = Arguments
    description = "Checks a snapshot's annotations and images, and says which are usable."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[Loaded]:
        """Refuses a dataset whose annotations changed since this run's snapshot."""
        if arguments.mode not in MODES:
            raise InvalidConfig(f"--mode {arguments.mode}: give one of {', '.join(MODES)}.")
        if arguments.on_error not in ON_ERROR:
            raise InvalidConfig(f"--on-error {arguments.on_error}: give one of {', '.join(ON_ERROR)}.")
        wanted = shards.wanted(arguments.shards, arguments.shard)
        checks = resolve_checks(arguments.checks)
        imgsz = training_size(arguments.settings)
        snapshot_result = receipts.load(arguments.snapshot, "snapshot", context.workspace)
        context.limits.allow(
            context.policy.limit(arguments.mode, int(snapshot_result.receipt.scalars.get("images", 0)))
        )
        snapshot = Snapshot(snapshot_result)
        pinned = context.run.state("snapshot").scalars.get("pinned") is True
        if not pinned and not context.planning and wanted.shard is None:
            # The whole does so for its shards.
            refuse_changed(snapshot, context)
        parameters = {
            "mode": Parameter(arguments.mode, "argument"),
            "on_error": Parameter(arguments.on_error, "argument"),
            "quarantine_limit": Parameter(QUARANTINE_LIMIT, "policy"),
        }
        if "findings" in snapshot_result.receipt.parameters:
            # The snapshot's digest does not cover what its annotations say twice.
            parameters["findings"] = snapshot_result.receipt.parameters["findings"]
        if content := checks.content():
            parameters["checks"] = Parameter(content, "argument")
        if imgsz != IMGSZ and any(quality.box_sizes(snapshot.annotations, size, checks) for size in (imgsz, IMGSZ)):
            # Where no box is tiny or huge at either size, another imgsz checks nothing again.
            parameters["imgsz"] = Parameter(imgsz, "argument")
        baseline, notices = (None, []) if checks.off("drift") else drift.of_run(context, snapshot, arguments.mode)
        if baseline is not None:
            parameters["baseline"] = Parameter(baseline.content(), "champion")
        resolution = Resolution(
            inputs={"snapshot": snapshot_result.reference},
            parameters=parameters,
            notices=notices,
            loaded=Loaded(snapshot, checks, baseline, wanted),
        )
        if wanted.shard is None:
            return resolution
        return shards.resolved(self, context, resolution, wanted.shard)

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed:
        """Looks at the images, or puts together what shards have seen; decides what is left out, and writes report and page.

        A shard's result is what it has seen, whatever is wrong with it: which error counts is decided of the whole.
        """
        snapshot, checks = resolution.loaded.snapshot, resolution.loaded.checks
        mode = str(resolution.parameters["mode"].value)
        if (shard := resolution.loaded.wanted.shard) is not None:
            part = look_at_shard(snapshot, mode, shard.number, shard.count, context)
            attempt.write(PART, "part.parquet", part, result=True)
            return Computed()
        quarantine = resolution.parameters["on_error"].value == "quarantine"
        looked = self._looked(context, resolution, mode)
        annotations, objects, pictures = snapshot.annotations, looked.objects, looked.pictures
        findings = whole(annotations, looked.findings)
        of_images, twins = quality.of_images(annotations, snapshot.table, pictures, checks, context.alive)
        findings += of_images
        findings += quality.of_boxes(annotations, objects, _imgsz(resolution), checks)
        brightness = [] if pictures is None else pictures.levels()
        baseline, measures = resolution.loaded.baseline, []
        if baseline is not None:
            measures = drift.measured(annotations, baseline, brightness, checks.threshold("drift"))
            findings += drift_findings(annotations.file, baseline.snapshot.id, measures)
        findings = checks.applied(findings)
        broken = sorted(
            {finding.file_name for finding in findings if finding.severity == "error" and finding.file_name}
        )
        left_out = broken if quarantine else []
        unused = too_small(annotations) | named(annotations.images["file_name"], left_out)
        splits: dict[str, presence.Flags] = {split: snapshot.in_split(split) for split in SPLITS}
        counts = presence.count_labels(annotations, objects, splits, unused)
        general = [*presence.absences(annotations, counts), *quality.class_imbalance(annotations, counts, checks)]
        findings += checks.applied(general)
        report = msgspec.structs.replace(
            _report(snapshot, mode, findings, left_out, counts, checks),
            brightness=brightness,
            baseline="" if baseline is None else baseline.snapshot.id,
            drift=drift.reported(measures),
        )
        refusal = _refusal(report, broken, quarantine=quarantine, images=len(snapshot.table))
        page = render(snapshot, report, counts, refusal, twins, context)
        if refusal:
            folder = context.run.prefix.child("validate")
            folder.write("report.json", report.encode())
            folder.write("report.html", page)
            raise InvalidDataset(f"{refusal} The report lies at {folder.uri}/report.html.")
        attempt.write("report", "report.json", report.encode(), result=True)
        attempt.write("page", "report.html", page, result=False)
        warned = Counter(finding.code for finding in report.findings if finding.severity == "warning")
        return Computed(
            scalars={
                "errors": report.errors,
                "warnings": report.warnings,
                "quarantined": len(report.quarantined),
                runs.WARNINGS: dict(sorted(warned.items())),
                **({} if baseline is None else {SCALAR: baseline.named}),
            }
        )

    def of_shard(self, whole: Resolution[Loaded]) -> Mapping[str, Parameter]:
        """The parameters that decide what is seen of an image by itself."""
        return {name: parameter for name, parameter in whole.parameters.items() if name in ("mode", "findings")}

    def _looked(self, context: Context, resolution: Resolution[Loaded], mode: str) -> Looked:
        """What is seen of all images: what their shards saw, where they are all there."""
        snapshot, count = resolution.loaded.snapshot, resolution.loaded.wanted.count
        parts = shards.results(self, context, resolution, count)
        if parts is not None:
            try:
                return merged(snapshot, parts, mode)
            except InvalidReceipt as error:
                notice(f"{self.name}: {error.sentence} All images are looked at here.")
        return look(snapshot, mode, context)


def refuse_changed(snapshot: Snapshot, context: Context) -> None:
    """Hashes the dataset's annotations again. Raises DatasetChanged with the differences if they are not the snapshot's."""
    annotations = changed_since(snapshot, context)
    if annotations is None:
        return
    changes = "; ".join(difference(snapshot.annotations, annotations))
    raise DatasetChanged(
        f"{_named(snapshot, annotations)}: the dataset changed since its snapshot {snapshot.id} ({changes}); start a new run."
    )


def _named(snapshot: Snapshot, annotations: Annotations) -> str:
    """The annotations' file; of several datasets their URIs."""
    return snapshot.dataset if annotations.parts else f"{snapshot.dataset}/{annotations.file}"


def _imgsz(resolution: Resolution[Loaded]) -> int:
    """The size at which boxes are tiny or huge."""
    parameter = resolution.parameters.get("imgsz")
    return IMGSZ if parameter is None else int(parameter.value)


def _report(
    snapshot: Snapshot,
    mode: str,
    findings: list[Finding],
    left_out: list[str],
    counts: presence.LabelCounts,
    checks: Checks,
) -> Report:
    return Report(
        snapshot_id=snapshot.id,
        mode=mode,
        images=len(snapshot.table),
        errors=sum(finding.severity == "error" for finding in findings),
        warnings=sum(finding.severity == "warning" for finding in findings),
        quarantined=left_out,
        findings=[
            ReportedFinding(
                severity=finding.severity,
                code=finding.code,
                file_name=finding.file_name,
                field=finding.field,
                sentence=finding.sentence,
            )
            for finding in findings
        ],
        labels={split: counts.kept[split].total() for split in SPLITS},
        labels_left_out=dict(sorted(counts.left_out.items())),
        checks=checks.content(),
    )


def _refusal(report: Report, broken: list[str], *, quarantine: bool, images: int) -> str | None:
    """Why the dataset can't be trained on, or None."""
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if not errors:
        return None
    general = [finding for finding in errors if finding.file_name is None]
    # Labels that are refused one by one say more than that none is left.
    telling = [finding for finding in (*general, *errors) if finding.code != "no_labels"]
    first = (telling or general)[0].sentence
    if not quarantine or general:
        return with_more(first, len(errors) - 1)
    if len(broken) > QUARANTINE_LIMIT * images:
        return f"{len(broken)} of {images} images have errors, more than the {QUARANTINE_LIMIT:.0%} that may be left out: {first}"
    return None


STAGE: Stage[Arguments, Loaded] = ValidateStage()
