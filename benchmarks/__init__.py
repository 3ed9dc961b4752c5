"""Speed and memory beside peers in the same run. One thread: set before numpy and ONNX Runtime are imported."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
