"""train: trains on a converted dataset in a supervised child process, and loses nothing but time when it is killed."""

from visionloop.components.exposed import component_of
from visionloop.components.train.stage import STAGE

__all__ = ["STAGE", "train"]

__getattr__ = component_of(__name__)
