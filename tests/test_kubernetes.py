"""The chart, and the manifests rendered from it: valid, with settings, ports and commands that there are."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import app
from app.cli import COMMANDS
from app.cli.serve import DRAIN_SECONDS
from app.settings import Settings
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "minist"
EXAMPLE = DEPLOY / "helm" / "example.yaml"
REFERENCE = (ROOT / "docs" / "http-api.md").read_text()  # its tables are compared with the code
PATHS = set(re.findall(r"^\| `GET (/\S+)`", REFERENCE, re.M))
IMAGE = (ROOT / "Dockerfile").read_text()
VARIABLES = {f"MINIST_{name.upper()}" for name in Settings.model_fields}
SECRETS = {"MINIST_DATABASE_URL", "MINIST_API_KEY", "MINIST_WEBHOOK_SECRET"}
FIXED = {"MINIST_PORT", "MINIST_HOME", "MINIST_DATA_DIR", "MINIST_ROOT_PATH", "MINIST_GRPC_PORT"}
OF_STORE = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL"}
VERSIONS = ("1.27", kubernetes_validate.latest_version())
helm = pytest.mark.skipif(not find_spec("helm_python"), reason="helm-python-sdk has no wheel for this machine")

Manifest = dict[str, Any]


def rendered(*values: Path) -> str:
    done = subprocess.run(
        [sys.executable, DEPLOY / "manifests.py", *values], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["kubernetes.yaml", pytest.param("example.yaml", marks=helm)])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """Those for everybody without Helm, and those of the example, which turns everything on."""
    plain = request.param == "kubernetes.yaml"
    text = (DEPLOY / "kubernetes.yaml").read_text() if plain else rendered(EXAMPLE)
    return list(yaml.safe_load_all(text))


@helm
def test_the_plain_manifests_are_those_of_the_chart() -> None:
    """Else run `make manifests`. What `helm lint --strict` finds ends it, too."""
    assert (DEPLOY / "kubernetes.yaml").read_text() == rendered()


def test_kubernetes_knows_every_field(manifests: list[Manifest]) -> None:
    """A ServiceMonitor is the operator's kind, of which there is no schema here: tested below."""
    for manifest in manifests:
        if manifest["kind"] != "ServiceMonitor":
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schema_is_strict() -> None:
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"prots": []}}
    with pytest.raises(kubernetes_validate.ValidationError, match="prots"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_every_part_is_there(manifests: list[Manifest]) -> None:
    always = {"Deployment", "Service", "Job", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    kinds = {manifest["kind"] for manifest in manifests}
    assert kinds - always in (set(), {"Ingress", "ServiceMonitor"})
    assert set(pods(manifests)) == {"api", "worker", "migration"}


def test_variables_are_those_that_are_read_and_secrets_come_from_outside(manifests: list[Manifest]) -> None:
    for part, pod in pods(manifests).items():
        (container,) = pod["containers"]
        variables = {entry["name"]: entry for entry in container["env"]}
        assert len(variables) == len(container["env"])
        assert variables.keys() <= VARIABLES | OF_STORE
        for name in variables.keys() & (SECRETS | OF_STORE - {"AWS_REGION", "AWS_ENDPOINT_URL"}):
            assert variables[name]["valueFrom"]["secretKeyRef"]["key"] == name
        read = {name: entry["value"] for name, entry in variables.items() if "value" in entry}
        Settings.model_validate(
            {name.removeprefix("MINIST_").lower(): value for name, value in read.items() if name in VARIABLES}
        )
        assert part == "migration" or read["MINIST_STORE"].startswith("s3://")


def test_the_chart_takes_every_setting_that_is_not_its_own() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    named = set(schema["definitions"]["settings"]["propertyNames"]["anyOf"][0]["enum"])
    assert named == VARIABLES - SECRETS - FIXED | {"AWS_REGION", "AWS_ENDPOINT_URL"}


def test_commands_are_those_of_the_image(manifests: list[Manifest]) -> None:
    found = {tuple(command) for pod in pods(manifests).values() for command in commands(pod["containers"][0])}
    api, worker = ("minist", "serve", "api"), ("minist", "serve", "worker")
    assert found == {
        api, worker, ("minist", "db", "upgrade"), ("minist", "health", "worker"), ("sleep", "5")
    }  # fmt: skip


@helm
def test_workers_train_in_the_cluster_of_the_example() -> None:
    """With the same token, at a port that the head has and both policies allow."""
    manifests = list(yaml.safe_load_all(rendered(DEPLOY / "helm" / "ray.yaml")))
    worker, api = (pods(manifests)[part]["containers"][0] for part in ("worker", "api"))
    variables = {entry["name"]: entry for entry in worker["env"]}
    assert "RAY_AUTH_TOKEN" not in {entry["name"] for entry in api["env"]}
    assert variables["RAY_AUTH_MODE"]["value"] == "token"
    cluster, policy = yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())
    head, *nodes = ray_pods(cluster)
    (inside, outside) = policy["spec"]["ingress"]
    (port,) = (int(port["port"]) for port in outside["ports"])
    service = f"{cluster['metadata']['name']}-head-svc"
    assert variables["MINIST_RAY_ADDRESS"]["value"] == f"ray://{service}:{port}"
    assert port in {one["containerPort"] for one in head["containers"][0]["ports"]}
    allowed = [
        one["port"]
        for rule in of_kind(manifests, "NetworkPolicy")[0]["spec"]["egress"]
        for one in rule["ports"]
    ]
    assert port in allowed
    labels = next(
        one["metadata"]["labels"]
        for one in templates(manifests)
        if one["spec"]["containers"][0]["name"] == "worker"
    )
    assert outside["from"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    assert inside["from"][0]["podSelector"] == policy["spec"]["podSelector"]
    for node in (head, *nodes):
        (container,) = node["containers"]
        entries = {entry["name"]: entry for entry in container["env"]}
        assert entries.keys() == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "MINIST_DATA_DIR"}
        assert entries["RAY_AUTH_TOKEN"] == variables["RAY_AUTH_TOKEN"]
        assert entries["RAY_AUTH_MODE"] == variables["RAY_AUTH_MODE"]
        assert f"MINIST_DATA_DIR={entries['MINIST_DATA_DIR']['value']}\n" in IMAGE


def test_the_ray_cluster_is_of_the_version_that_is_tested() -> None:
    """Kubernetes' schema knows pods and policies, but not the operator's own kind."""
    cluster, policy = yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())
    assert f"ray=={cluster['spec']['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    made = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod} for pod in ray_pods(cluster)
    ]
    for manifest in (policy, *made):
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def ray_pods(cluster: Manifest) -> list[Manifest]:
    spec = cluster["spec"]
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


@pytest.mark.parametrize("words", ["serve api", "serve worker", "db upgrade", "health worker"])
def test_the_command_takes_these_words(words: str) -> None:
    """Words that are not known are refused before --help is read."""
    name, *others = words.split()
    module, function = next(command.entry for command in COMMANDS if command.name == name).split(":")
    with pytest.raises(SystemExit) as ended:
        getattr(import_module(module), function)([*others, "--help"])
    assert ended.value.code == 0


def test_probes_and_metrics_ask_for_paths_that_there_are(manifests: list[Manifest]) -> None:
    (container,) = pods(manifests)["api"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert set(ports.values()) == {int(port) for port in re.findall(r"^EXPOSE (\d+)", IMAGE, re.M)}
    assert set(ports.values()) == {Settings.model_fields["port"].default}
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    paths = {kind: probe["path"] for kind, probe in probes.items()}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    for probe in probes.values():
        assert probe["port"] in ports
        assert probe["path"] in PATHS
    for monitor in of_kind(manifests, "ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service(manifests)["spec"]["ports"]}
        assert endpoint["path"] in PATHS
        labels = service(manifests)["metadata"]["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_pods_have_no_rights_and_folders_where_the_image_writes(manifests: list[Manifest]) -> None:
    """As the profile `restricted` of Kubernetes wants it, and a root file system that nobody writes to."""
    for pod in pods(manifests).values():
        whole, (container,) = pod["securityContext"], pod["containers"]
        assert f"USER {whole['runAsUser']}:{whole['runAsGroup']}\n" in IMAGE
        assert whole["runAsNonRoot"] is True
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounted) == {*re.findall(r"MINIST_HOME=(\S+)", IMAGE), "/tmp"}
        assert set(mounted.values()) == {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
        assert container["resources"]["limits"]["memory"]


def test_a_pod_has_time_to_end(manifests: list[Manifest]) -> None:
    pod = pods(manifests)["api"]
    waits = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= waits + DRAIN_SECONDS + 5
    assert pods(manifests)["worker"]["terminationGracePeriodSeconds"] >= DRAIN_SECONDS


def test_everything_is_about_the_pods_it_is_meant_for(manifests: list[Manifest]) -> None:
    selectors = [service(manifests)["spec"]["selector"]]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind(manifests, "PodDisruptionBudget")]
    every, api = (one["spec"]["podSelector"]["matchLabels"] for one in of_kind(manifests, "NetworkPolicy"))
    assert all(chosen(manifests, one) == {"api"} for one in (*selectors, api))
    assert chosen(manifests, every) == {"api", "worker", "migration"}
    for deployment in of_kind(manifests, "Deployment"):
        part = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        assert chosen(manifests, deployment["spec"]["selector"]["matchLabels"]) == {part}
    for ingress in of_kind(manifests, "Ingress"):
        (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
        assert path["backend"]["service"]["name"] == service(manifests)["metadata"]["name"]
        (variable,) = (
            entry
            for entry in pods(manifests)["api"]["containers"][0]["env"]
            if entry["name"] == "MINIST_ROOT_PATH"
        )
        assert variable["value"] == path["path"]


def test_more_pods_come_by_metrics_that_there_are(manifests: list[Manifest]) -> None:
    (autoscaler,) = of_kind(manifests, "HorizontalPodAutoscaler")
    (api,) = (one for one in of_kind(manifests, "Deployment") if one["metadata"]["name"].endswith("-api"))
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == api["metadata"]["name"]
    assert "replicas" not in api["spec"]  # else each deployment would undo what the autoscaler did
    assert "cpu" in api["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    gauges = set(re.findall(r"^\| `(\w+)` \| gauge", REFERENCE, re.M))
    for metric in autoscaler["spec"]["metrics"]:
        assert metric["type"] == "Resource" or metric["pods"]["metric"]["name"] in gauges


def test_the_chart_is_of_this_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == app.__version__


@helm
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("settings: {MINIST_STOR: s3://a}", "MINIST_STOR"),
        ("settings: {MINIST_STORE_CACHE_BYTES: 10000000000}", "CACHE_BYTES': got number, want string"),
        ("{settings: {MINIST_ALLOWED_HOSTS: a.org}, serviceMonitor: {enabled: true}}", "refuse Prometheus"),
    ],
)
def test_values_that_would_not_work_are_refused(values: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(values)
    command = [sys.executable, str(DEPLOY / "manifests.py"), str(tmp_path / "values.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert said in done.stderr


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def service(manifests: list[Manifest]) -> Manifest:
    (found,) = of_kind(manifests, "Service")
    return found


def templates(manifests: list[Manifest]) -> Iterator[Manifest]:
    yield from (one["spec"]["template"] for kind in ("Deployment", "Job") for one in of_kind(manifests, kind))


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Specs of pods by the name of their container."""
    return {one["spec"]["containers"][0]["name"]: one["spec"] for one in templates(manifests)}


def chosen(manifests: list[Manifest], selector: dict[str, str]) -> set[str]:
    """The pods that have these labels."""
    return {
        one["spec"]["containers"][0]["name"]
        for one in templates(manifests)
        if selector.items() <= one["metadata"]["labels"].items()
    }


def commands(container: Manifest) -> Iterator[list[str]]:
    yield container["command"]
    for place in (container.get("readinessProbe", {}), container.get("lifecycle", {}).get("preStop", {})):
        if "exec" in place:
            yield place["exec"]["command"]
