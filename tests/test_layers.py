"""Imports go down only: a module may import those of its own layer's list below it, never above."""

from __future__ import annotations

import ast
from pathlib import Path

import whisper_server

PACKAGE = Path(whisper_server.__file__).parent
# From the top to the bottom; a module may import what stands in later lines.
LAYERS = (
    "__main__",
    "server",
    "cluster",
    "commands",
    "connections",
    "check",
    "trial",
    "app",
    "api",
    "jobs",
    "live",
    "engine",
    "inference",
    "keys",
    "passes",
    "settings",
    "logs",
    "errors",
    "",
)


def layer(module: str) -> int:
    return LAYERS.index(module.removeprefix("whisper_server").strip(".").split(".")[0])


def imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    froms = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return froms | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def test_imports_go_down_only() -> None:
    for path in PACKAGE.rglob("*.py"):
        importer = path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".").removesuffix("__init__")
        for module in imports(path):
            if module.startswith("whisper_server"):
                assert layer(importer) <= layer(module), f"{importer} imports {module}"


def test_inference_knows_nothing_of_the_web() -> None:
    for path in (PACKAGE / "inference").glob("*.py"):
        assert not {module.split(".")[0] for module in imports(path)} & {"starlette", "uvicorn", "asyncio", "anyio"}


def test_api_starts_no_threads_and_opens_no_models() -> None:
    for path in (PACKAGE / "api").glob("*.py"):
        used = imports(path)
        assert not {module.split(".")[0] for module in used} & {"threading", "ctranslate2", "av"}
        assert "whisper_server.inference.models.manager" not in used


def test_one_module_knows_ray() -> None:
    users = {path.name for path in PACKAGE.rglob("*.py") if "ray" in {m.split(".")[0] for m in imports(path)}}
    assert users == {"deployment.py"}
