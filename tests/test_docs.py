"""The documentation is complete and agrees with the code."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from conftest import TESTS
from starlette.routing import Route, WebSocketRoute

from whisper_server.api.deepgram import file_options
from whisper_server.api.deepgram.live_options import LISTEN
from whisper_server.api.deepgram.options import UNSUPPORTED
from whisper_server.api.metrics import Metrics
from whisper_server.api.requests import alignment_form
from whisper_server.api.requests.openai_form import LISTS, SINGLE
from whisper_server.api.requests.options import DECODING, EXECUTION, RENDERING, Field
from whisper_server.api.routes import speech_activity
from whisper_server.api.streaming.native import STREAM
from whisper_server.app import ROUTES
from whisper_server.core.settings import Settings
from whisper_server.inference.audio.decoder import CONTAINERS
from whisper_server.inference.models.catalogue import PACKAGES, REPOSITORIES

ROOT = TESTS.parent


def doc(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize("setting", [f.name for f in fields(Settings)])
def test_every_setting_is_documented(setting: str) -> None:
    row = f"| `--{setting.replace('_', '-')}` | `WHISPER_SERVER_{setting.upper()}` |"
    assert row in doc("settings.md")


@pytest.mark.parametrize("field", DECODING + RENDERING + EXECUTION, ids=lambda field: field.name)
def test_every_field_is_documented_with_what_it_takes(field: Field) -> None:
    row = f"| `{field.name}` | {field.parser.allowed} | {field.summary} |"
    assert row in doc("recognise.md"), row


@pytest.mark.parametrize("field", STREAM, ids=lambda field: field.name)
def test_every_option_of_a_live_session_is_documented_with_what_it_takes(field: Field) -> None:
    row = f"| `{field.name}` | {field.parser.allowed} | {field.summary} |"
    assert row in doc("live-protocols.md"), row


@pytest.mark.parametrize("field", (*file_options.SINGLE, *file_options.LISTS, *LISTEN), ids=lambda field: field.name)
def test_every_parameter_of_deepgram_is_documented_with_what_it_takes(field: Field) -> None:
    row = f"| `{field.name}` | {field.parser.allowed} | {field.summary} |"
    assert row in doc("deepgram.md"), row


@pytest.mark.parametrize("parameter", UNSUPPORTED)
def test_every_unsupported_parameter_of_deepgram_is_documented(parameter: str) -> None:
    assert f"`{parameter}`" in doc("deepgram.md")


@pytest.mark.parametrize("field", SINGLE + LISTS, ids=lambda field: field.name)
def test_every_field_of_openai_is_documented_with_what_it_takes(field: Field) -> None:
    row = f"| `{field.name}` | {field.parser.allowed} | {field.summary} |"
    assert row in doc("openai.md"), row


@pytest.mark.parametrize("field", alignment_form.FIELDS + speech_activity.FIELDS, ids=lambda field: field.name)
def test_every_field_of_alignments_is_documented_with_what_it_takes(field: Field) -> None:
    row = f"| `{field.name}` | {field.parser.allowed} | {field.summary} |"
    assert row in doc("alignment.md"), row


def test_every_endpoint_is_documented() -> None:
    routes = [
        route for route in ROUTES if isinstance(route, Route | WebSocketRoute) and not route.path.startswith("/web")
    ]
    paths = [route.path.replace(":path", "") for route in routes]
    assert [path for path in paths if not re.search(rf"`(GET|POST|WS) {path}`", doc("endpoints.md"))] == []


def test_every_metric_is_documented() -> None:
    table = doc("observability.md")
    names = re.findall(r"^# TYPE (\w+)", Metrics().text().decode(), re.MULTILINE)
    described = [name for name in names if not name.startswith("whisper_process_") and not name.endswith("_created")]
    assert described
    assert [name for name in described if f"`{name}" not in table] == []


def test_every_container_is_documented() -> None:
    assert [name for name in CONTAINERS if f"`{name}`" not in doc("audio.md")] == []


def test_every_model_is_documented() -> None:
    assert [name for name in REPOSITORIES if f"`{name}`" not in doc("models.md")] == []
    assert [package.install for package in PACKAGES.values() if package.install not in doc("models.md")] == []


def test_every_module_is_in_the_architecture() -> None:
    modules = [path.stem for path in (ROOT / "src").rglob("*.py") if path.name != "__init__.py"]
    named = set(re.findall(r"\w+", doc("architecture.md")))
    assert [module for module in modules if module not in named] == []


def test_links_in_the_documentation_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]*)?\)", page.read_text())]
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []
