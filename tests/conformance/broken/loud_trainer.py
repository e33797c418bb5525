"""A trainer whose module imports a library of its own."""

import safetensors
from example.trainer import ToyTrainer


class Loud(ToyTrainer):
    name = "loud"

    def requirements(self) -> list[str]:
        return [f"safetensors=={safetensors.__version__}"]


TRAINER = Loud()
