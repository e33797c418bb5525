"""train: trains on a converted dataset in a supervised child process, and loses nothing but time when it is killed."""

from visionloop.components.train.stage import STAGE

__all__ = ["STAGE"]
