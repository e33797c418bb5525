"""The files of the pipelines on Argo Workflows: templates, the schedule, and the kustomization that lists them."""

from __future__ import annotations

from typing import Any

import yaml

from visionloop.pipelines.targets import Target

#: The list of an Argo folder's files, for ``kubectl apply -k``.
KUSTOMIZATION = "kustomization.yaml"


def argo_files(target: Target) -> dict[str, str]:
    """Every WorkflowTemplate by file name, the schedule in the file of its template, and the kustomization that lists them."""
    from visionloop.pipelines.engines.argo.measure import measure_template
    from visionloop.pipelines.engines.argo.predict import predict_template
    from visionloop.pipelines.engines.argo.retrain import retrain_schedule, retrain_template
    from visionloop.pipelines.engines.argo.train import check_names, train_templates

    check_names(target.trainers)
    retrain = retrain_template(target)
    files = {
        f"{template.name}.yaml": argo_yaml(template)
        for template in (*train_templates(target), measure_template(target), predict_template(target))
    }
    files[f"{retrain.name}.yaml"] = argo_yaml(retrain, retrain_schedule())
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(files),
    }
    return dict(sorted(files.items())) | {KUSTOMIZATION: dump(kustomization)}


def argo_yaml(*objects: Any) -> str:
    """Hera's objects as YAML documents."""
    built = (
        resource.build().model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=False)
        for resource in objects
    )
    return "---\n".join(dump(document) for document in built)


class _Plain(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _text)


def dump(value: Any) -> str:
    """YAML that is the same for equal values."""
    return str(yaml.dump(value, Dumper=_Plain, sort_keys=True, allow_unicode=True, width=120))
