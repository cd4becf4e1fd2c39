"""The files of deploy/ for several machines: they are valid, and their settings exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TESTS

from whisper_server.core.settings import PREFIX, Settings

DEPLOY = TESTS.parent / "deploy"


def load(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (document,) = (document for document in documents if document["kind"] == kind)
    return document


def environment(container: dict[str, Any]) -> dict[str, str]:
    """The settings of a container, with a placeholder for secrets."""
    variables = {entry["name"]: entry.get("value", "postgresql://u@db/jobs") for entry in container["env"]}
    return {name: value for name, value in variables.items() if name.startswith(PREFIX)}


def serve_config() -> dict[str, Any]:
    (config,) = load("serve.yaml")
    return config


def test_the_serve_config_names_existing_settings_and_functions() -> None:
    (application,) = serve_config()["applications"]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(import_module(module), name))
    deployment, coordinator = application["deployments"]
    values = {**application["args"], **deployment["user_config"]}
    environ = {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()}
    settings = Settings.load([], {**application["runtime_env"]["env_vars"], **environ})
    assert settings.device == "cuda"
    assert deployment["max_ongoing_requests"] >= settings.max_requests + settings.max_sessions
    assert (deployment["name"], coordinator["name"]) == ("whisper", "coordinator")
    policy = deployment["autoscaling_config"]["policy"]
    module, _, name = policy["policy_function"].partition(":")
    getattr(import_module(module), name)(**policy["policy_kwargs"])


@pytest.mark.ray
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
@pytest.mark.filterwarnings("ignore")
def test_ray_serve_accepts_the_config() -> None:
    from ray.serve.schema import ServeDeploySchema

    parsed = ServeDeploySchema.model_validate(serve_config())
    assert parsed.applications[0].deployments[0].autoscaling_config["min_replicas"] == 1


def test_kuberay_has_the_same_serve_config_and_its_volumes() -> None:
    (service,) = load("kuberay.yaml")
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == serve_config()
    cluster = service["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    (workers,) = (group["template"]["spec"] for group in cluster["workerGroupSpecs"])
    (application,) = serve_config()["applications"]
    for pod in (head, workers):
        (container,) = pod["containers"]
        assert pod["enableServiceLinks"] is False
        assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
        assert {
            "name": "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH",
            "value": "whisper_server.cluster.proxy:middlewares",
        } in (container["env"])
        assert application["args"]["data_dir"] in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert workers["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    graceful = application["deployments"][0]["graceful_shutdown_timeout_s"]
    assert workers["terminationGracePeriodSeconds"] > graceful
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_kubernetes_pods_have_probes_and_a_gpu() -> None:
    documents = load("kubernetes.yaml")
    pod = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = Settings.load(container["args"], environment(container))
    assert pod["enableServiceLinks"] is False
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > settings.shutdown_timeout + pause
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert probes == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts) == {"/cache", "/data", "/tmp", "/secrets"}
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
    claims = {
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    }
    assert claims == {d["metadata"]["name"] for d in documents if d["kind"] == "PersistentVolumeClaim"}
    assert of_kind(documents, "Service")["spec"]["selector"] == {"app": "whisper"}
    assert of_kind(documents, "Service")["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


def nginx() -> str:
    return re.sub(r"#.*", "", (DEPLOY / "nginx.conf").read_text())


def test_nginx_does_not_buffer() -> None:
    text = nginx()
    assert text.count("{") == text.count("}")
    directives = dict(re.findall(r"^ {4}(\w+) ([^;{]+);", text, re.MULTILINE))
    assert (directives["proxy_request_buffering"], directives["proxy_buffering"]) == ("off", "off")
    assert int(directives["client_max_body_size"].rstrip("g")) * 2**30 == Settings().max_upload_bytes
    assert int(directives["proxy_read_timeout"].rstrip("s")) > Settings().session_idle_timeout
    upstreams = set(re.findall(r"proxy_pass http://(\w+);", text))
    assert upstreams == set(re.findall(r"upstream (\w+) \{", text))


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")
def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    configuration = tmp_path / "nginx.conf"
    server = (DEPLOY / "nginx.conf").read_text().replace("listen 80;", "listen 127.0.0.1:8080;")
    configuration.write_text(f"events {{}}\npid {tmp_path}/pid;\nerror_log stderr;\nhttp {{\n{server}\n}}\n")
    process = subprocess.run(
        ["nginx", "-t", "-c", str(configuration), "-p", str(tmp_path)], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
