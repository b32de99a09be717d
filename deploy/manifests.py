"""Print the manifests of deploy/helm/minist: with its own values, as in deploy/kubernetes.yaml, or with others.

    make manifests
    python deploy/manifests.py deploy/helm/example.yaml

Helm's own engine renders (helm-python-sdk, of the extra `dev`). A process of its own, since Go brings signal
handlers.
"""

import sys
from pathlib import Path
from typing import Any

import helm_python

CHART = Path(__file__).resolve().parent / "helm" / "minist"
RELEASE = {"name": "minist", "namespace": "minist"}
HEADER = "# Written by `make manifests` from deploy/helm/minist, for those who do not use Helm: change that.\n"
OF_HELM = "app.kubernetes.io/managed-by: Helm"


def render(values: dict[str, Any]) -> str:
    """All manifests of a release. Raises HelmError for values that the chart's schema or a template refuses."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        made = chart.render(values, **RELEASE)
    texts = [made[path].strip() for path in sorted(made) if path.endswith(".yaml")]
    return "---\n".join(f"{text}\n" for text in texts if text)


def check(values: dict[str, Any]) -> None:
    """What `helm lint --strict` has to say. Raises SystemExit."""
    if errors := helm_python.chart.lint(CHART, values, strict=True)["errors"]:
        raise SystemExit("\n".join(errors))


def plain(manifests: str) -> str:
    lines = manifests.splitlines(keepends=True)
    return HEADER + "".join(line for line in lines if OF_HELM not in line)


def run(words: list[str]) -> None:
    values = helm_python.values_from_yaml(Path(words[0]).read_text()) if words else {}
    try:
        manifests = render(values)
    except helm_python.HelmError as error:
        raise SystemExit(f"error: {error}") from None
    check(values)
    sys.stdout.write(manifests if words else plain(manifests))


if __name__ == "__main__":
    run(sys.argv[1:])
