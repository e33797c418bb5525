"""The variables of the process: read once at its start, without the white space that a file or an ``echo`` left around them."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping

from visionloop.core.errors import InvalidConfig
from visionloop.core.secrets import SECRETS

#: Beginnings and names of the variables of docs/configuration.md; of these alone the values are stripped.
OURS = re.compile(
    r"(VISIONLOOP|MLFLOW|AWS|S3|EXTERNAL_S3|EXTERNAL_STORAGE|INTERNAL_S3|ARGO|KFP|KF_PIPELINES|CONFIG|CALLBACK|TENSORBOARD|CLEARML)_\w+"
    r"|DATASET_S3_URI|TASK_TYPE|(TRAINING_)?JOB_ID|TRACE_ID|MODEL_NAME|FRAMEWORK|EPOCHS|BATCH_SIZE|LEARNING_RATE|IMGSZ|DEVICE"
    r"|CONFIG|ADVANCED_CONFIG|OMP_NUM_THREADS|OBSERVABILITY_BACKENDS|KUBECONFIG|KUBERNETES_SERVICE_HOST|SSL_CERT_FILE"
    r"|TMPDIR|NO_PROXY|no_proxy|YOLO_CONFIG_DIR"
)


def prepare(environment: MutableMapping[str, str] | None = None) -> None:
    """Strips the values and puts them back, since libraries read the same variables.

    Raises:
        InvalidConfig: If a secret has a line break inside: no header and no signature can hold it.
    """
    environment = os.environ if environment is None else environment
    for name, value in list(environment.items()):
        if value != value.strip() and OURS.fullmatch(name):
            environment[name] = value.strip()
    for credential in SECRETS:
        if re.search(r"[\r\n]", environment.get(credential.name, "")):
            raise InvalidConfig(
                f"{credential.name} has a line break inside its value; set it again as one line (one value, no list of several)."
            )
