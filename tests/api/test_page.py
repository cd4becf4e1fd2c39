"""The demo page: served whole, under its CSP, from this server only, and in step with the options."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

import whisper_server
from whisper_server.api.options import DECODING, RENDERING
from whisper_server.app import create_app
from whisper_server.inference.languages import language_codes
from whisper_server.settings import Settings

WEB = Path(whisper_server.__file__).parent / "web"
ASSETS = WEB / "assets"
TYPES = {
    ".css": {"text/css"},
    ".js": {"text/javascript", "application/javascript"},  # what Python calls it from 3.12 on and before
    ".svg": {"image/svg+xml"},
}
XML_NAMESPACE = re.compile(r'xmlns(:\w+)?="[^"]*"')


PAGES = {"/": "index.html", "/docs": "docs.html"}
SCRIPTS = {"index.html": "app.js", "docs.html": "docs.js"}


class Page(HTMLParser):
    """The start tags of a page and the attributes of each."""

    def __init__(self, name: str = "index.html") -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed((WEB / name).read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def attributes(self, name: str, *tags: str) -> list[str]:
        return [attrs[name] or "" for tag, attrs in self.elements if name in attrs and (not tags or tag in tags)]


def client() -> TestClient:
    """Not entered, so the lifespan does not run and no model is loaded: the page needs none."""
    return TestClient(create_app(Settings()), base_url="http://localhost")


def assets() -> list[str]:
    pages = [Page(name) for name in PAGES.values()]
    return sorted({asset for page in pages for asset in page.attributes("href", "link") + page.attributes("src")})


@pytest.mark.parametrize(("path", "name"), PAGES.items())
def test_pages_are_served_under_their_policy(path: str, name: str) -> None:
    response = client().get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert response.headers["cache-control"] == "no-cache"
    assert response.text == (WEB / name).read_text(encoding="utf-8")


def test_pages_refer_to_every_other_file() -> None:
    served = {path.name for path in ASSETS.iterdir()}
    assert {Path(asset).name for asset in assets()} == served


@pytest.mark.parametrize("asset", assets())
def test_asset_is_served_with_its_type(asset: str) -> None:
    response = client().get(urljoin("/", asset))
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] in TYPES[Path(asset).suffix]
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/web/index.html", "/web/../index.html", "/web/%2e%2e/index.html", "/web/"])
def test_only_assets_are_served_below_web(path: str) -> None:
    assert client().get(path).status_code == 404


@pytest.mark.parametrize("path", [*sorted(WEB.glob("*.html")), *sorted(ASSETS.iterdir())], ids=lambda path: path.name)
def test_no_file_refers_to_another_host(path: Path) -> None:
    text = XML_NAMESPACE.sub("", path.read_text(encoding="utf-8"))
    assert not re.search(r"""https?://|["'(]//""", text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_page_has_nothing_inline_that_its_policy_forbids(name: str) -> None:
    page = Page(name)
    scripts = [attrs for tag, attrs in page.elements if tag == "script"]
    assert all("src" in attrs for attrs in scripts)
    assert not [tag for tag, _ in page.elements if tag == "style"]
    assert not [name for _, attrs in page.elements for name in attrs if name == "style" or name.startswith("on")]


@pytest.mark.parametrize(("name", "script"), SCRIPTS.items())
def test_script_finds_every_element_that_it_asks_for(name: str, script: str) -> None:
    asked = re.findall(r'byId\("([^"]+)"\)', (ASSETS / script).read_text(encoding="utf-8"))
    assert asked
    assert set(asked) <= set(Page(name).attributes("id"))


@pytest.mark.parametrize("name", SCRIPTS.values())
def test_script_never_parses_text_as_html(name: str) -> None:
    script = (ASSETS / name).read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


def test_form_posts_fields_that_the_server_knows() -> None:
    page = Page()
    known = {field.name for field in DECODING + RENDERING}
    assert page.attributes("action", "form") == ["recognise"]
    assert set(page.attributes("name", "input", "select")) - {"file"} <= known
    assert "file" in page.attributes("name", "input")


def test_page_suggests_languages_and_tasks_that_the_server_knows() -> None:
    parsers = {field.name: field.parser for field in DECODING}
    for value in Page().attributes("value", "option"):
        assert value.lower() in language_codes() or parsers["task"](value) == value
