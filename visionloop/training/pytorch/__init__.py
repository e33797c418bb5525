"""What trainers on PyTorch share: devices, failures, checkpoints, model files, and a training loop for libraries without one.

No module here imports torch before it is used, but for `loop` and `loading`, which are imported where a training starts.
"""
