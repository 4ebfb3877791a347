"""Import torchvision, also where its compiled operators do not match the installed torch.

torchvision 0.28.0's only Linux wheel is the CUDA build. Beside a CPU build of torch its compiled
library does not load, and `import torchvision` then fails on `operator torchvision::nms does not
exist`, though nothing here uses operators: data sets and transforms are Python. Declaring the
missing names lets the import pass. Wherever the plain import works, nothing is touched.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType

import torch

# Schemas as torchvision registers them itself (torchvision/csrc/ops/nms.cpp and quantized).
_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_kept: list[torch.library.Library] = []  # a declaration lives as long as its Library


def import_datasets() -> ModuleType:
    """`torchvision.datasets`. Raises ImportError where torchvision is not installed."""
    with warnings.catch_warnings():
        # "Failed to load image Python extension": decoding is Pillow's here.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\..*")
        try:
            import torchvision.datasets
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
                del sys.modules[name]  # half-imported
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name, schema in _OPERATORS.items():
                if not hasattr(torch.ops.torchvision, name):
                    library.define(schema)
            _kept.append(library)
            import torchvision.datasets
    found: ModuleType = torchvision.datasets
    return found
