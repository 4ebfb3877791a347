"""Takes Helm's program out of the layer that AWS's CDK has on PyPI: `.venv-helm/helm`.

Helm itself is on no index of packages.
"""

import io
import platform
import sys
import tarfile
import zipfile
from pathlib import Path

if platform.machine() not in ("x86_64", "AMD64"):
    sys.exit("The layer's program is for x86-64: install helm, and put it on PATH.")
[bundle] = Path(sys.prefix).rglob("lambda-layer-kubectl-*.jsii.tgz")
with tarfile.open(bundle) as files:
    layer = files.extractfile("package/lib/layer.zip")
    if layer is None:
        sys.exit(f"{bundle} has no layer any more.")
    with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
        helm = Path(sys.prefix) / "helm"
        helm.write_bytes(inner.read("helm/helm"))
        helm.chmod(0o755)
