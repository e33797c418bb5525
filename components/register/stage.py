"""The register stage."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from visionloop.components.calls import APPROVE, AUTO
from visionloop.components.convert.converted import Converted
from visionloop.components.evaluate import operating
from visionloop.components.evaluate.operating import OperatingPoint
from visionloop.components.evaluate.result import EvaluationResult
from visionloop.components.evaluate.result import read as read_evaluation
from visionloop.components.register import bom, card, lineage, signature, statement, working_folder
from visionloop.components.register import exports as exporting
from visionloop.components.register.again import again
from visionloop.components.register.aliases import Placed, move
from visionloop.components.register.exports import Exports
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.core import receipts, structs
from visionloop.core.canonical import canonical
from visionloop.core.errors import InvalidConfig, InvalidReceipt, NotFound
from visionloop.core.logs import notice
from visionloop.core.names import sanitise
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Output, Parameter, Result
from visionloop.core.runs import now
from visionloop.core.stage import Attempt, Computed, Context, Resolution, Stage, argument, key_of
from visionloop.core.storage import Sent, open_prefix
from visionloop.core.stores import normalise_uri
from visionloop.data.annotations.tables import SPLITS
from visionloop.registry import Registry, Version, fresh, package
from visionloop.registry import versions as registry
from visionloop.registry.lock import locked
from visionloop.training import catalog
from visionloop.training.tracking import attach, record

#: The folder of an attempt that holds the model.
MODEL = "model"

#: The longest description of a version that MLflow keeps on every database, in characters.
LONGEST_DESCRIPTION = 5000


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a registration in ``registration.json``: the name, the training's digest, the version."""

    schema: int = 1
    model_name: str
    training: str
    version: int


@dataclass(frozen=True)
class Arguments:
    """The arguments of register."""

    evaluation: str = argument("URI of the evaluate receipt.")
    model_name: str = argument("The name under which the model is registered.")
    storage: str | None = argument(
        "Where the registered files are copied to, as {storage}/{name}/{version}/; {workspace}/models unless given.",
        default=None,
    )
    approve: str | None = argument(
        "Who makes it the champion where the verdict is promote: auto, this stage; manual, a person by visionloop model promote.",
        default=None,
    )
    exports: str | None = argument("URI of the export receipt, where the model was exported.", default=None)


@dataclass(frozen=True)
class Loaded:
    """What ``resolve`` loaded."""

    evaluation: Result
    result: EvaluationResult
    training: Result
    name: str
    original_name: str
    storage: str
    registry: Registry
    approve: str
    point: OperatingPoint
    exports: Exports | None = None
    key: signature.Key | None = None


class RegisterStage:
    """Makes one version for each name, training and operating point, however often it is killed or raced; the receipt comes last."""

    name = "register"
    logic_version = 3
    policy = POLICIES["register"]
    arguments = Arguments
    description = "Registers an evaluated model in MLflow and moves its alias."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[Loaded]:
        """Refuses a rejected model, and checks whether the version that an earlier receipt names is still registered."""
        evaluation = receipts.load(arguments.evaluation, "evaluate", context.workspace)
        result = read_evaluation(evaluation)
        if result.verdict == "none":
            raise InvalidConfig(
                f"{arguments.evaluation}: a model was only measured there; give the evaluation of a training."
            )
        if result.verdict == "reject":
            raise InvalidConfig(
                f"{arguments.evaluation}: the evaluation's verdict is reject ({result.reason.rstrip('.')}); "
                "train a better model, or evaluate again with another --gate."
            )
        name = sanitise(arguments.model_name)
        evaluated_for = evaluation.receipt.parameters["model_name"].value
        if name != evaluated_for:
            raise InvalidConfig(
                f"--model-name {arguments.model_name!r}: the evaluation compared with the champion of '{evaluated_for}'; give that name, or evaluate for '{name}'."
            )
        approve = arguments.approve or AUTO
        if approve not in APPROVE:
            raise InvalidConfig(f"--approve {approve}: give one of {', '.join(APPROVE)}.")
        training = evaluation.input("training", "train")
        exports = exporting.load(arguments.exports, result.training, context) if arguments.exports else None
        point = operating.read(evaluation) or operating.default_point(result.classes)
        models = Registry(os.environ, self.name)
        storage = normalise_uri(arguments.storage) if arguments.storage else f"{context.workspace.uri}/models"
        models.check_workspace(context.workspace.uri)
        resolution = Resolution(
            inputs={
                "evaluation": evaluation.reference,
                # Left out where there is none: receipts of before stay valid.
                **({"exports": exports.reference} if exports else {}),
            },
            parameters={
                "model_name": Parameter(name, "argument"),
                "storage": Parameter(
                    storage if arguments.storage else None, "argument" if arguments.storage else "default"
                ),
                "registration": Parameter(1, "registry"),
                # Left out where it is the default: receipts of before stay valid.
                **({"approve": Parameter(approve, "argument")} if approve != AUTO else {}),
            },
            loaded=Loaded(
                evaluation, result, training, name, arguments.model_name, storage, models, approve, point, exports
            ),
            notices=list(exports.refusals()) if exports else [],
        )
        self._see_registered(context, resolution)
        return resolution

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed:
        """Builds the model, creates the version unless it exists, copies the files and moves the alias."""
        # Before anything is made: a key that can't sign leaves no version without a signature.
        loaded = resolution.loaded = replace(resolution.loaded, key=signature.key(os.environ))
        models = loaded.registry
        models.ensure_model(loaded.name, loaded.original_name)
        training_digest = loaded.result.training
        model_card = _card(context, resolution)
        point = loaded.point.digest
        subject = (loaded.name, training_digest)
        with locked(context.workspace, subject, context.run.name, context.alive):
            folder = attempt.work / MODEL
            version = oldest_version(models, loaded.name, training_digest, point)
            if version is None:
                self._build(context, resolution, folder, attempt.work)
                source = f"{attempt.key_prefix.uri}/{attempt.name}/{MODEL}"
                _put(folder, source, context)
                description = card.shortened(model_card, LONGEST_DESCRIPTION)
                version = models.create_version(
                    loaded.name, source, self._tags(context, loaded, model_card), description
                )
                version = oldest_version(models, loaded.name, training_digest, point, mine=version) or version
            # A receipt that is there already is being replaced: it was forced, or files that it names are gone or damaged.
            # Files that another key's receipt names are made again only where they are not the training's any more.
            replaced = receipts.look(context.workspace, self.name, key_of(self, resolution)) is not None
            own = version.source.startswith(f"{attempt.key_prefix.uri}/")
            self._restore(resolution, version, folder, attempt.work, context, anew=replaced and own)
            copy = f"{loaded.storage}/{loaded.name}/{version.number}"
            sent = _put(folder, copy, context)
            if loaded.exports:
                loaded.exports.put(copy, attempt.work, context)
            recorded = {
                registry.STORAGE_URI: copy,
                registry.CHECKPOINT_SHA256: loaded.training.output("best").sha256,
            }
            if changed := {tag: value for tag, value in recorded.items() if version.tags.get(tag) != value}:
                models.tag(version, changed)
            _list_outputs(attempt, version, folder, sent)
        with locked(context.workspace, (loaded.name,), context.run.name, context.alive):
            placed = move(models, version, loaded.result, loaded.evaluation.uri, loaded.approve)
        if placed.reason:
            notice(f"register: {placed.reason}")
        model_card = replace(model_card, version=version.number, alias=placed.alias, storage=copy)
        text, page = card.render(model_card).encode(), card.page(model_card)
        attempt.write("card", "model_card.md", text, result=False)
        attempt.write("card_page", "model_card.html", page, result=False)
        attach(os.environ, loaded.training.receipt.tracking, {}, {"model_card.md": text, "model_card.html": page})
        return self._finish(loaded, attempt, version, placed, copy)

    def _see_registered(self, context: Context, resolution: Resolution[Loaded]) -> None:
        """Accepts an earlier receipt only if its version is still registered.

        With another MLflow, or after the version was deleted, the model is registered anew under a key of its own. What
        evaluate has just seen in this run is not checked again: a reused stage need not import mlflow.
        """
        loaded = resolution.loaded
        seen = context.run.state("evaluate").scalars
        while True:
            existing = receipts.look(context.workspace, self.name, key_of(self, resolution))
            if existing is None or context.force:
                loaded.registry.check_name(loaded.name, loaded.original_name)
                return
            number, alias = int(existing.receipt.scalars["version"]), existing.receipt.scalars["alias"]
            if (seen.get("champion"), seen.get("registered_name")) == (f"{loaded.name}/{number}", loaded.original_name):
                if alias != registry.CHAMPION:
                    resolution.run_scalars = {"alias": registry.CHAMPION, "reason": "A person made it the champion."}
                return
            loaded.registry.check_name(loaded.name, loaded.original_name)
            version = loaded.registry.version(loaded.name, number)
            if version is not None and version.training_digest == loaded.result.training:
                resolution.run_scalars = _present_alias(version, alias)
                return
            _register_anew(resolution, "registry: the version is not registered any more")
            resolution.notices.append(f"{loaded.name}/{number} is not registered any more; it is registered anew.")

    def _build(self, context: Context, resolution: Resolution[Loaded], folder: Path, work: Path) -> None:
        """Makes the model's folder from the training's best checkpoint, sees that it loads elsewhere, and states where it comes from."""
        loaded = resolution.loaded
        parameters = {name: entry.value for name, entry in loaded.training.receipt.parameters.items()}
        trainer = catalog.trainer(str(parameters["trainer"]))
        checkpoint = Path(work, "checkpoint", Path(loaded.training.output("best").path).name)
        checkpoint.parent.mkdir(exist_ok=True)
        loaded.training.fetch("best", checkpoint)
        dataset = Converted(loaded.training.input("converted", "convert"))
        description = package.Description(
            trainer=trainer.name,
            task=dataset.task,
            classes=loaded.result.classes or list(dataset.classes),
            keypoints=loaded.result.keypoints,
            training_digest=loaded.result.training,
            checkpoint=f"artifacts/{checkpoint.name}",
            checkpoint_sha256=loaded.training.output("best").sha256,
            config={name: value for name, value in parameters.items() if not isinstance(value, dict | list)},
            operating_point=dict(loaded.point.confidence),
        )
        package.build(folder, checkpoint, trainer, description)
        fresh.check_loads(folder, trainer.name, work, context.alive)
        (folder / bom.FILE).write_bytes(_bom(resolution, folder).encode())
        made = _statement(context, resolution, {name: _sha256(folder / name) for name in package.files(folder)})
        (folder / statement.FILE).write_bytes(made.encode())
        if loaded.key is not None:
            loaded.key.sign(folder)

    def _restore(
        self,
        resolution: Resolution[Loaded],
        version: Version,
        folder: Path,
        work: Path,
        context: Context,
        *,
        anew: bool,
    ) -> None:
        """Makes this machine's folder and the version's source hold the same complete model.

        What the source holds counts if its checkpoint is the training's; else, or if ``anew``, the model is made again from the
        training's outputs and put there.
        """
        loaded = resolution.loaded
        uri = loaded.registry.download_uri(version)
        if not anew and package.is_complete(uri):
            if _is_copy(folder, uri):
                return
            shutil.rmtree(folder, ignore_errors=True)
            source = open_prefix(uri, "results")
            checkpoint, expected = package.read(uri).checkpoint, loaded.training.output("best").sha256
            sent = {}
            for info in source.objects():
                local = folder / info.key
                local.parent.mkdir(parents=True, exist_ok=True)
                sent[info.key] = source.download(info.key, local, context.alive)
            if sent[checkpoint].sha256 == expected:
                return
            notice(f"register: {uri}/{checkpoint} is not the training's; the model's files are put there again.")
            anew = True
        if anew:
            shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            self._build(context, resolution, folder, work)
        _put(folder, uri, context)

    def _tags(self, context: Context, loaded: Loaded, model_card: card.Card) -> dict[str, str]:
        """Returns the tags of a new version (docs/contract.md, "Gate and registration"), its metrics included."""
        run = record.mlflow_run_id(loaded.training.receipt.tracking)
        tags = {
            registry.NAME: loaded.original_name,
            registry.TRAINING_KEY: loaded.training.receipt.key,
            registry.TRAINING_DIGEST: loaded.result.training,
            registry.CHECKPOINT_SHA256: loaded.training.output("best").sha256,
            registry.EVALUATION: loaded.evaluation.uri,
            registry.SNAPSHOT_ID: model_card.snapshot_id,
            registry.DATASET_HASH: model_card.dataset_hash,
            registry.TRACE_ID: context.trace_id,
            registry.RUN: context.run.name,
            registry.VERSIONS: json.dumps(loaded.training.receipt.versions, sort_keys=True),
        }
        if model_card.commit:
            tags[registry.GIT_COMMIT] = model_card.commit
        if run:
            tags[registry.MLFLOW_RUN_ID] = run
        if (point := loaded.point.digest) is not None:
            tags[registry.OPERATING_POINT] = point
        if (model := loaded.training.receipt.parameters.get("model")) is not None:
            tags[registry.STARTING_WEIGHTS] = str(model.value)
        return tags | {
            f"{registry.METRIC}{name}": f"{value:.6g}" for name, value in sorted(loaded.result.metrics.items())
        }

    def _finish(self, loaded: Loaded, attempt: Attempt, version: Version, placed: Placed, copy: str) -> Computed:
        result: dict[str, Any] = {
            "schema": 1,
            "model_name": loaded.name,
            "training": loaded.result.training,
            "version": version.number,
            "alias": placed.alias,
            "reason": placed.reason,
        }
        attempt.write("registration", "registration.json", canonical(result), result=True)
        scalars = {
            "model_name": loaded.name,
            "version": version.number,
            "alias": placed.alias,
            "model_uri": version.uri,
            "storage_uri": copy,
        }
        if placed.reason:
            scalars["reason"] = placed.reason
        return Computed(scalars=scalars, metrics=dict(loaded.result.metrics))


def read_registration(result: Result) -> Registered:
    """What a registration's receipt is of. Raises InvalidReceipt."""
    try:
        return structs.decode(result.read("registration"), Registered)
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(
            f"{result.uri}: registration.json is not one ({error}); run again with --force register."
        ) from error


def oldest_version(
    models: Registry, name: str, training_digest: str, point: str | None, mine: Version | None = None
) -> Version | None:
    """Returns the oldest version of a training with an operating point, by its digest, or None.

    ``mine``, just created, is deleted if another is older.
    """
    versions = [version for version in models.of_training(name, training_digest) if version.operating_point == point]
    if not versions:
        return None
    if mine is not None and mine.number != versions[0].number:
        models.delete_version(mine)
    return versions[0]


def _statement(context: Context, resolution: Resolution[Loaded], files: Mapping[str, str]) -> statement.Statement:
    """Where a model comes from; ``files`` are the SHA-256 of its files by name."""
    chain = lineage.chain(resolution.loaded.evaluation)
    run = context.run.read()
    metadata = statement.Metadata(
        invocation_id=context.run.name, started_on=run.created_at if run else None, finished_on=now()
    )
    registration = {name: entry.value for name, entry in resolution.parameters.items()}
    return statement.stated(files, chain, Snapshot(chain["snapshot"]), registration, metadata)


def _bom(resolution: Resolution[Loaded], folder: Path) -> bom.Bom:
    """What the model in ``folder`` is made of."""
    loaded = resolution.loaded
    chain = lineage.chain(loaded.evaluation)
    snapshot, found = Snapshot(chain["snapshot"]), validation.read(chain["validate"])
    requirements = (folder / package.REQUIREMENTS_FILE).read_text(encoding="utf-8").splitlines()
    limits = list(card.limits(loaded.result, found, test_was_seen=snapshot.test_was_seen))
    return bom.stated(
        loaded.name, chain, snapshot, loaded.result, requirements, now(), [card.USES[snapshot.task]], limits
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _present_alias(version: Version, recorded: str) -> dict[str, Any]:
    """Returns what differs from the receipt in this run: a rerun keeps an alias that was moved since."""
    now = next((alias for alias in (registry.CHAMPION, registry.CHALLENGER) if alias in version.aliases), None)
    if now == recorded:
        return {}
    return {"alias": now, "reason": f"It was registered as {recorded}; the alias was moved since and is left as it is."}


def _register_anew(resolution: Resolution[Loaded], why: str) -> None:
    """Takes the next key: what the receipt of this one says does not hold any more."""
    again = int(resolution.parameters["registration"].value) + 1
    resolution.parameters["registration"] = Parameter(again, why)


def _is_copy(folder: Path, uri: str) -> bool:
    """Whether the local folder holds the very model at ``uri``, because it was just uploaded."""
    local = folder / package.DESCRIPTION_FILE
    with contextlib.suppress(NotFound):
        return local.exists() and open_prefix(uri, "results").read(package.DESCRIPTION_FILE) == local.read_bytes()
    return False


def _put(folder: Path, uri: str, context: Context) -> Mapping[str, Sent]:
    """Uploads a model's files, the one that makes it complete last, after removing partial files of a killed attempt."""
    prefix = open_prefix(uri, "results")
    prefix.discard_partial()
    sent, names = {}, package.files(folder)
    for name in names:
        sent[name] = prefix.upload(folder / name, name, context.alive)
        context.advanced(len(sent), len(names), "files")
    return sent


def _list_outputs(attempt: Attempt, version: Version, folder: Path, sent: Mapping[str, Sent]) -> None:
    """Lists the source's files as the receipt's outputs if they lie under this key, even in an earlier attempt."""
    start = f"{attempt.key_prefix.uri}/"
    if version.source.startswith(start):
        path = version.source.removeprefix(start)
        for name in package.files(folder):
            attempt.outputs[f"{MODEL}/{name}"] = Output(f"{path}/{name}", sent[name].size, sent[name].sha256, False)


def _card(context: Context, resolution: Resolution[Loaded]) -> card.Card:
    """Returns the card of a model that does not have a version yet."""
    loaded = resolution.loaded
    chain = lineage.chain(loaded.evaluation)
    snapshot, converted = Snapshot(chain["snapshot"]), Converted(chain["convert"])
    trainer = catalog.trainer(str(loaded.training.receipt.parameters["trainer"].value))
    licence = getattr(trainer, "licence", None)
    return card.Card(
        name=loaded.name,
        original_name=loaded.original_name,
        task=converted.task,
        classes=loaded.result.classes or converted.classes,
        result=loaded.result,
        evaluation=loaded.evaluation,
        training=loaded.training,
        snapshot_id=snapshot.id,
        dataset_hash=snapshot.identity.dataset_hash,
        dataset=snapshot.dataset,
        test_was_seen=snapshot.test_was_seen,
        point=loaded.point,
        description=str(context.run_arguments.get("description") or ""),
        report=validation.read(chain["validate"]),
        images={split: int(snapshot.in_split(split).sum()) for split in SPLITS},
        licences={
            **({"the dataset": "; ".join(snapshot.licences)} if snapshot.licences else {}),
            **({f"the library {getattr(trainer, 'distribution', None) or trainer.name}": licence} if licence else {}),
        },
        again=again(
            chain,
            context.workspace.uri,
            snapshot.id,
            loaded.original_name,
            resolution.parameters,
            context.run_arguments,
        ),
        commit=working_folder.commit(),
        run=context.run.name,
        exports=loaded.exports.each if loaded.exports else (),
    )


STAGE: Stage[Arguments, Loaded] = RegisterStage()
