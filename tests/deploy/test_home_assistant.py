"""The add-on for Home Assistant: its options are settings, and its script runs the server and announces it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import TESTS

from whisper_server import __version__
from whisper_server.core.settings import Settings

ROOT = TESTS.parent
FOLDER = ROOT / "deploy" / "home-assistant"
# What the Supervisor requires of an option, for the types that are used here.
TYPE = re.compile(r"(str|bool|list\((?P<choices>[^)]+)\)|(?P<number>int|float)\((?P<low>\d+),(?P<high>\d+)\))\??")


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "config.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("home_assistant_run", FOLDER / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_add_on_is_for_this_version(config: dict[str, Any]) -> None:
    assert config["version"] == __version__
    assert (config["arch"], config["discovery"]) == (["amd64", "aarch64"], ["wyoming"])
    assert {"name", "slug", "description", "options", "schema"} <= set(config)
    assert config["timeout"] > Settings().shutdown_timeout


def test_options_are_settings_and_required_ones_have_a_default(config: dict[str, Any], script: ModuleType) -> None:
    names = {field.name for field in fields(Settings)}
    assert set(config["schema"]) <= names
    required = {name for name, type in config["schema"].items() if not type.endswith("?")}
    assert set(config["options"]) == required
    settings = loaded(script, config["options"])
    assert all(getattr(settings, name) == value for name, value in config["options"].items())
    assert (settings.wyoming, settings.jobs) == ("tcp://0.0.0.0:10300", False)


def loaded(script: ModuleType, options: dict[str, Any]) -> Settings:
    variables = script.settings(options, Path("/data"))
    return Settings.load([], {name: value for name, value in variables.items() if name.startswith("WHISPER_SERVER_")})


def test_every_value_that_the_schema_allows_is_one_of_the_setting(config: dict[str, Any], script: ModuleType) -> None:
    for name, type in config["schema"].items():
        match = TYPE.fullmatch(type)
        assert match is not None, type
        bounds = (
            [float(match[bound]) if match["number"] == "float" else int(match[bound]) for bound in ("low", "high")]
            if match["number"]
            else []
        )
        for value in [*(match["choices"] or "").split("|"), *bounds]:
            if value != "":
                assert getattr(loaded(script, {name: value}), name) == value


def test_every_option_is_explained(config: dict[str, Any]) -> None:
    texts = yaml.safe_load((FOLDER / "translations" / "en.yaml").read_text())
    assert set(texts["configuration"]) == set(config["schema"])
    assert all(option["name"] and option["description"] for option in texts["configuration"].values())
    assert set(texts["network"]) == set(config["ports"]) == {"10300/tcp"}


def test_the_repository_has_a_name() -> None:
    assert yaml.safe_load((ROOT / "repository.yaml").read_text()) == {"name": "whisper-server"}


@pytest.mark.skipif(shutil.which("hadolint", path=str(Path(sys.executable).parent)) is None, reason="needs hadolint")
def test_hadolint_has_no_complaints() -> None:
    command = [str(Path(sys.executable).parent / "hadolint"), str(FOLDER / "Dockerfile")]
    process = subprocess.run(command, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "")


def test_the_image_installs_the_version_and_copies_what_exists() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    assert '"whisper-server[wyoming]==${BUILD_VERSION}"' in text
    assert [(FOLDER / name).exists() for name in re.findall(r"^COPY (\S+) ", text, re.MULTILINE)] == [True]


def test_the_server_is_announced_to_the_supervisor(script: ModuleType) -> None:
    requests: list[tuple[str | None, Any]] = []

    class Supervisor(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.headers["Authorization"], content))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Supervisor) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        script.announce("a-token", f"http://127.0.0.1:{server.server_port}/discovery")
        thread.join()
    ((authorization, content),) = requests
    assert (authorization, content["service"]) == ("Bearer a-token", "wyoming")
    assert re.fullmatch(r"tcp://\S+:10300", content["config"]["uri"])


def test_without_a_supervisor_the_server_runs_all_the_same(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    script.announce("", "http://127.0.0.1:1/discovery")
    assert "could not be told" in capsys.readouterr().err


def test_a_server_that_fails_is_not_waited_for(script: ModuleType) -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"]) as server:
        server.wait()
        assert script.wait_until_open(server) is False
