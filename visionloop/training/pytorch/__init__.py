"""What trainers on PyTorch share: devices, failures, checkpoints, model files, and a training loop for libraries without one.

A trainer's own module imports `trainer`, `objects.trainer` and `settings`, which import no torch. Modules that do say so; they are
imported where a training starts or a model is loaded.
"""
