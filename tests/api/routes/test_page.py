"""The pages and their assets: content types, security headers, and agreement with the server's options."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

import whisper_server
from whisper_server.api.requests.options import DECODING, RENDERING
from whisper_server.app import create_app
from whisper_server.core.settings import Settings
from whisper_server.inference.models.catalogue import REPOSITORIES
from whisper_server.inference.transcription.languages import language_codes

WEB = Path(whisper_server.__file__).parent / "web"
ASSETS = WEB / "assets"
TYPES = {
    ".css": {"text/css"},
    ".js": {"text/javascript", "application/javascript"},  # from Python 3.12, and before
    ".svg": {"image/svg+xml"},
}
XML_NAMESPACE = re.compile(r'xmlns(:\w+)?="[^"]*"')

PAGES = {"/": "index.html", "/docs": "docs.html"}
FILES = sorted(path for path in ASSETS.rglob("*") if path.is_file())
SCRIPTS = sorted(path.relative_to(ASSETS).as_posix() for path in ASSETS.rglob("*.js"))
KEY = "a-secret-of-the-tests"


class Page(HTMLParser):
    """The start tags of a page with their attributes."""

    def __init__(self, name: str = "index.html") -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed((WEB / name).read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def attributes(self, name: str, *tags: str) -> list[str]:
        return [attrs[name] or "" for tag, attrs in self.elements if name in attrs and (not tags or tag in tags)]


def script(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def imports(name: str) -> set[str]:
    """The assets that a script imports, or starts as a worklet."""
    paths = re.findall(r'(?:from |URL\()"(\.{1,2}/[^"]+)"', script(name))
    return {(ASSETS / name).parent.joinpath(path).resolve().relative_to(ASSETS).as_posix() for path in paths}


def client() -> TestClient:
    """A client that is not entered, so the lifespan does not run and no model is loaded."""
    return TestClient(create_app(Settings()), base_url="http://localhost")


def page_assets() -> list[str]:
    """The assets that the pages refer to."""
    pages = [Page(name) for name in PAGES.values()]
    return sorted({asset for page in pages for asset in page.attributes("href", "link") + page.attributes("src")})


@pytest.mark.parametrize(("path", "name"), PAGES.items())
def test_pages_are_served_with_their_security_headers(path: str, name: str) -> None:
    response = client().get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ") and "unsafe" not in policy
    assert response.headers["permissions-policy"].startswith("microphone=(self), ")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.text == (WEB / name).read_text(encoding="utf-8")


def test_every_asset_is_used_by_a_page_or_a_script() -> None:
    served = {path.relative_to(ASSETS).as_posix() for path in FILES}
    imported = {name for module in SCRIPTS for name in imports(module)}
    assert {asset.removeprefix("web/") for asset in page_assets()} | imported == served


def test_the_page_preloads_all_modules() -> None:
    """Otherwise each module would be requested only after the one that imports it."""
    preloaded = {href.removeprefix("web/") for href in Page().attributes("href", "link") if href.endswith(".js")}
    worklets = {name for name in SCRIPTS if name.endswith("-worklet.js")}
    assert preloaded == {name for module in SCRIPTS for name in imports(module)} - worklets


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_asset_is_served_with_its_type(path: Path) -> None:
    response = client().get(urljoin("/web/", path.relative_to(ASSETS).as_posix()))
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] in TYPES[path.suffix]
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/web/index.html", "/web/../index.html", "/web/%2e%2e/index.html", "/web/"])
def test_only_assets_are_served_below_web(path: str) -> None:
    assert client().get(path).status_code == 404


def test_the_page_and_its_assets_are_small() -> None:
    files = [WEB / "index.html", *(path for path in FILES if not path.name.startswith("docs."))]
    assert sum(path.stat().st_size for path in files) <= 150_000


@pytest.mark.parametrize("path", [*sorted(WEB.glob("*.html")), *FILES], ids=lambda path: path.name)
def test_no_file_links_to_another_host(path: Path) -> None:
    text = XML_NAMESPACE.sub("", path.read_text(encoding="utf-8"))
    assert not re.search(r"""https?://|["'(]//""", text)


@pytest.mark.parametrize("name", PAGES.values())
def test_page_has_nothing_inline_that_its_policy_forbids(name: str) -> None:
    page = Page(name)
    scripts = [attrs for tag, attrs in page.elements if tag == "script"]
    assert all("src" in attrs for attrs in scripts)
    assert not [tag for tag, _ in page.elements if tag == "style"]
    assert not [name for _, attrs in page.elements for name in attrs if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_element_id_in_a_script_exists(name: str) -> None:
    page = Page("docs.html" if name == "app/docs.js" else "index.html")
    ids = re.findall(r'(?:byId|setText|showError)\("([^"]+)"', script(name))
    assert set(ids) <= set(page.attributes("id"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_never_parses_text_as_html(name: str) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|document\.cookie", script(name)
    )


def test_form_fields_are_options_of_the_server() -> None:
    form = [attrs for tag, attrs in Page().elements if tag in ("input", "select") and "name" in attrs]
    options = {field.name for field in DECODING + RENDERING}
    assert Page().attributes("action", "form") == ["recognise"]
    assert {str(attrs["name"]) for attrs in form} - {"file"} <= options
    assert "file" in Page().attributes("name", "input")


def test_page_lists_the_servers_languages_and_models() -> None:
    values = Page().attributes("value", "option")
    assert {code for code in language_codes().values()} <= set(values)
    first = values.index("tiny.en")
    models = values[first : values.index("distil-large-v3.5") + 1]
    assert set(models) <= set(REPOSITORIES)


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        ({}, {"key": False, "jobs": True, "live": True}),
        ({"api_key": (KEY,), "jobs": False, "max_sessions": 0}, {"key": True, "jobs": False, "live": False}),
    ],
)
def test_page_reads_the_servers_features(
    client_with: Callable[..., TestClient], changes: dict[str, object], config: dict[str, object], tmp_path: Path
) -> None:
    response = client_with(data_dir=tmp_path, **changes).get("/web/server.json")
    assert response.json() == {"version": whisper_server.__version__, **config}
    assert response.headers["cache-control"] == "no-cache"
