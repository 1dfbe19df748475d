"""The Helm chart, rendered by Helm itself (in a process of its own: it brings Go's run time)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from handlers.routes import API_ROUTES
from services.settings import settings
from services.settings.settings import VERSION
from services.settings.table import SETTINGS
from tests.support.server import ROOT

CHART = ROOT / "deploy/helm/usher"
VALUES = {
    "publicUrl": "https://app.example",
    "existingSecret": "usher-secrets",
    "trustedProxies": "10.0.0.0/8",
    "settings": {"SIGNUP": "closed", "MAX_SOCKETS_PER_USER": 20},
    "ingress": {"enabled": True, "host": "app.example", "tlsSecret": "app-tls"},
}
PROGRAM = """
import json, sys, helm_python
path, values = sys.argv[1], json.loads(sys.argv[2])
try:
    found = helm_python.lint(path, values)["errors"]
    with helm_python.Chart.load(path) as chart:
        rendered = chart.render(values, name="prod", namespace="field")
except helm_python.errors.HelmValuesError as error:
    sys.exit(str(error))
print(json.dumps([found, rendered]))
"""


def helm(values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("Helm is not installed: make test-delivery")
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, CHART, json.dumps(values)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def rendered() -> dict[str, dict[str, Any]]:
    """What Kubernetes gets, by kind."""
    return rendered_with(VALUES)


def rendered_with(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    done = helm(values)
    assert done.returncode == 0, done.stderr
    errors, files = json.loads(done.stdout)
    assert errors == []
    documents = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    return {each["kind"]: each for each in documents}


@pytest.fixture
def pod(rendered: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = rendered["Deployment"]["spec"]["template"]["spec"]
    return found


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in pod["containers"][0]["env"]}


def test_two_nodes_are_replaced_one_by_one_and_never_both_evicted(
    rendered: dict[str, dict[str, Any]],
) -> None:
    spec = rendered["Deployment"]["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = rendered["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    labels = spec["template"]["metadata"]["labels"]
    for selector in (budget["selector"]["matchLabels"], rendered["Service"]["spec"]["selector"]):
        assert selector == spec["selector"]["matchLabels"]
        assert selector.items() <= labels.items()


def test_readiness_is_readyz_and_liveness_is_not(pod: dict[str, Any]) -> None:
    container = pod["containers"][0]
    paths = {
        name: container[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert set(paths.values()) <= dict(API_ROUTES).keys()


@pytest.mark.parametrize(("path", "passed"), [("", "/"), ("/usher", "/usher"), ("/a/b", "/a/b")])
def test_the_ingress_passes_on_what_lies_below_the_public_url(path: str, passed: str) -> None:
    found = rendered_with({**VALUES, "publicUrl": f"https://app.example{path}"})
    [rule] = found["Ingress"]["spec"]["rules"]
    [only] = rule["http"]["paths"]
    assert (only["path"], only["pathType"]) == (passed, "Prefix")
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert environment(pod)["USHER_PUBLIC_URL"] == f"https://app.example{path}"


def test_kubernetes_waits_for_a_drain_before_it_kills(pod: dict[str, Any]) -> None:
    drain = float(environment(pod)["USHER_DRAIN_SECONDS"])
    command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "/opt/usher/.venv/bin/python"
    assert command[2] == "import time; time.sleep(5)"
    assert pod["terminationGracePeriodSeconds"] == 5 + drain + 20


def test_a_node_writes_only_to_its_volumes_and_has_no_rights(pod: dict[str, Any]) -> None:
    container = pod["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]}


def test_kubernetes_does_not_set_the_port_of_a_service_as_a_setting(pod: dict[str, Any]) -> None:
    """For a Service named usher it would be USHER_PORT=tcp://…, and no node would start."""
    assert pod["enableServiceLinks"] is False


def test_usher_accepts_the_settings_and_reads_its_secrets_from_files(
    pod: dict[str, Any], tmp_path: Path
) -> None:
    secrets = {
        "database-url": "postgresql://usher:secret@postgres/usher",
        "redis-url": "redis://redis:6379/0",
        "jwt-secrets": "j" * 40,
        "encryption-keys": "e" * 43 + "=",
    }
    for name, value in secrets.items():
        (tmp_path / name).write_text(value, "utf-8")
    mount = next(m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "secrets")
    variables = {
        name: value.replace(mount["mountPath"], str(tmp_path))
        for name, value in environment(pod).items()
    }
    data = tmp_path / "data"
    chosen = settings.load({**variables, "USHER_DATA_DIR": str(data)}, [])
    assert not chosen.embedded
    assert not chosen.warnings
    assert chosen.public_url == "https://app.example"
    assert chosen.signup == "closed"
    shown = {each.name: each for each in chosen.shown}
    for each in SETTINGS:
        if f"USHER_{each.name}_FILE" in variables:
            assert shown[f"USHER_{each.name}"].source.endswith("_FILE")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"publicUrl": ""}, "/publicUrl"),
        ({"publicUrl": "app.example"}, "/publicUrl"),
        ({"publicUrl": "https://app.example/usher/"}, "/publicUrl"),
        ({"publicUrl": "https://app.example/a//b"}, "/publicUrl"),
        ({"publicUrl": "https://app.example/usher?x"}, "/publicUrl"),
        ({"existingSecret": ""}, "/existingSecret"),
        ({"port": 80}, "/port"),
        ({"settings": {"USHER_SIGNUP": "closed"}}, "USHER_SIGNUP"),
    ],
)
def test_values_that_would_not_work_are_refused(wrong: dict[str, Any], named: str) -> None:
    done = helm({**VALUES, **wrong})
    assert done.returncode == 1
    assert named in done.stderr


def test_the_chart_is_for_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == VERSION
