from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import program
import pytest

from whisper_server import __version__
from whisper_server.core.errors import ModelIncomplete, SettingsError
from whisper_server.core.settings import ALIASES, GROUPS, PREFIX, Settings

SECRET = "a-secret-of-the-tests"
NAMES = [field.name for field in fields(Settings)]
# For each setting, a text that is allowed and the value it stands for.
ALLOWED = {
    "model": ("tiny.en", "tiny.en"),
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("8000", 8000),
    "device": ("cuda:1", "cuda:1"),
    "compute_type": ("INT8_float32", "int8_float32"),
    "memory_limit": ("3.5G", 3_500_000_000),
    "cpu_fallback": ("no", False),
    "idle_unload": ("300", 300.0),
    "idle_release": ("1800", 1800.0),
    "lazy_load": ("yes", True),
    "cpu_threads": ("4", 4),
    "workers": ("3", 3),
    "max_batch_size": ("16", 16),
    "autotune": ("no", False),
    "encoder_window": ("Adaptive", "adaptive"),
    "models_dir": ("/srv/models", Path("/srv/models")),
    "on_demand_models": ("on", True),
    "max_loaded_models": ("3", 3),
    "offline": ("yes", True),
    "detail": ("off", False),
    "max_upload_bytes": ("1000", 1000),
    "max_audio_seconds": ("90.5", 90.5),
    "max_requests": ("100", 100),
    "max_queued_audio_seconds": ("7200", 7200.0),
    "request_timeout": ("2.5", 2.5),
    "shutdown_timeout": ("0", 0),
    "log_level": ("Debug", "debug"),
    "log_format": ("JSON", "json"),
    "api_key": (f"{SECRET}, {SECRET}2", (SECRET, f"{SECRET}2")),
    "api_key_file": ("/srv/keys", Path("/srv/keys")),
    "auth": ("off", False),
    "key_concurrency": ("2", 2),
    "key_rate": ("60/Minute", "60/minute"),
    "allow_host": ("NAS.lan, *.example.org", ("nas.lan", "*.example.org")),
    "allow_origin": ("https://a.example,NULL", ("https://a.example", "null")),
    "ssl_certfile": ("/srv/cert.pem", Path("/srv/cert.pem")),
    "ssl_keyfile": ("/srv/key.pem", Path("/srv/key.pem")),
    "root_path": ("/speech/whisper", "/speech/whisper"),
    "wyoming": ("10300", "tcp://127.0.0.1:10300"),
    "wyoming_zeroconf": ("on", True),
    "max_uploads": ("8", 8),
    "receive_timeout": ("2.5", 2.5),
    "jobs": ("no", False),
    "data_dir": ("/srv/data", Path("/srv/data")),
    "database_url": ("postgres://me:secret@db/jobs", "postgresql://me:secret@db/jobs"),
    "audio_storage": ("s3://bucket/jobs", "s3://bucket/jobs"),
    "job_concurrency": ("4", 4),
    "job_ttl": ("3600", 3600.0),
    "max_jobs": ("50", 50),
    "key_jobs": ("5", 5),
    "allow_url_fetch": ("yes", True),
    "webhook_host": ("Hooks.example.org, *.lan", ("hooks.example.org", "*.lan")),
    "webhook_secret": (f"{SECRET}3", f"{SECRET}3"),
    "result_cache": ("on", True),
    "max_sessions": ("0", 0),
    "key_sessions": ("2", 2),
    "session_idle_timeout": ("30", 30.0),
    "max_session_seconds": ("7200", 7200.0),
}
SWITCHES = {
    "cpu_fallback": "--no-cpu-fallback",
    "lazy_load": "--lazy-load",
    "autotune": "--no-autotune",
    "on_demand_models": "--on-demand-models",
    "offline": "--offline",
    "detail": "--no-detail",
    "auth": "--no-auth",
    "jobs": "--no-jobs",
    "allow_url_fetch": "--allow-url-fetch",
    "result_cache": "--result-cache",
    "wyoming_zeroconf": "--wyoming-zeroconf",
}
SECRETS = {"api_key", "audio_storage", "database_url", "webhook_secret"}
# A setting, a text that is not allowed, and the beginning of what is allowed.
REFUSED = [
    ("model", " ", "a name"),
    ("host", " ", "a name"),
    ("port", "x", "a whole number from 0 to 65535"),
    ("port", "-1", "a whole number from 0 to 65535"),
    ("port", "65536", "a whole number from 0 to 65535"),
    ("port", "80.0", "a whole number from 0 to 65535"),
    ("port", "http", "a whole number from 0 to 65535"),
    ("device", "gpu", "auto, cpu, cuda, cuda:N or cuda:N,M"),
    ("device", "cuda:", "auto, cpu, cuda, cuda:N or cuda:N,M"),
    ("device", "cuda:-1", "auto, cpu, cuda, cuda:N or cuda:N,M"),
    ("device", "cuda:0,0", "each GPU once"),
    ("device", "cuda:0,", "auto, cpu, cuda, cuda:N or cuda:N,M"),
    ("compute_type", "int4", "one of auto, int8, int8_float32, "),
    ("memory_limit", "-1", "bytes such as 4G, 3500M or 4000000000; 0 is no limit"),
    ("memory_limit", "4 G", "bytes such as 4G, 3500M or 4000000000; 0 is no limit"),
    ("memory_limit", "some", "bytes such as 4G, 3500M or 4000000000; 0 is no limit"),
    ("cpu_fallback", "maybe", "true or false"),
    ("idle_unload", "-1", "a number from 0 to"),
    ("idle_release", "never", "a number from 0 to"),
    ("lazy_load", "2", "true or false"),
    ("cpu_threads", "-1", "a whole number from 0 to 1024"),
    ("cpu_threads", "1025", "a whole number from 0 to 1024"),
    ("workers", "-1", "a whole number from 0 to 1024"),
    ("max_batch_size", "257", "a whole number from 0 to 256"),
    ("autotune", "2", "true or false"),
    ("models_dir", "~nosuchuser/models", ""),
    ("on_demand_models", "some", "true or false"),
    ("max_loaded_models", "0", "a whole number from 1 to 100"),
    ("offline", "maybe", "true or false"),
    ("detail", "2", "true or false"),
    ("max_upload_bytes", "0", "a whole number from 1 to"),
    ("max_upload_bytes", "2G", "a whole number from 1 to"),
    ("max_audio_seconds", "0.5", "a number from 1 to"),
    ("max_audio_seconds", "nan", "a number from 1 to"),
    ("encoder_window", "half", "one of full, adaptive"),
    ("max_requests", "0", "a whole number from 1 to"),
    ("max_queued_audio_seconds", "0", "a number from 1 to"),
    ("request_timeout", "-1", "a number from 0 to"),
    ("shutdown_timeout", "-1", "a whole number from 0 to"),
    ("log_level", "verbose", "one of debug, info, warning, error"),
    ("log_format", "xml", "one of text, json"),
    ("api_key", "too-short", "keys of at least 16 visible characters"),
    ("api_key", "a key with its spaces", "keys of at least 16 visible characters"),
    ("api_key", f"{SECRET},", "keys of at least 16 visible characters"),
    ("api_key_file", "~nosuchuser/keys", "a file"),
    ("auth", "none", "true or false"),
    ("key_concurrency", "-1", "a whole number from 0 to"),
    ("key_rate", "0/minute", "none or a number per second, minute, hour or day"),
    ("key_rate", "60", "none or a number per second, minute, hour or day"),
    ("allow_host", "nas.lan:5000", "names without a port"),
    ("allow_host", "http://nas.lan", "names without a port"),
    ("allow_origin", "example.org", "origins such as https://example.org"),
    ("allow_origin", "https://example.org/", "origins such as https://example.org"),
    ("ssl_certfile", " ", "a file"),
    ("ssl_keyfile", " ", "a file"),
    ("root_path", "whisper", "a path such as /whisper"),
    ("root_path", "/whisper/", "a path such as /whisper"),
    *(
        ("wyoming", text, "tcp://HOST:PORT, such as tcp://0.0.0.0:10300, unix:///PATH, or a port of this machine")
        for text in (
            "on",
            "65536",
            "0.0.0.0:10300",
            "tcp://0.0.0.0",
            "tcp://0.0.0.0:65536",
            "tcp://:10300",
            "tcp://::1:10300",
            "http://0.0.0.0:10300",
            "unix://whisper.sock",
            "unix:///run/",
            "stdio://",
        )
    ),
    ("wyoming_zeroconf", "maybe", "true or false"),
    ("max_uploads", "0", "a whole number from 1 to"),
    ("receive_timeout", "0", "a number from 0.1 to"),
    ("jobs", "some", "true or false"),
    ("data_dir", "~nosuchuser/data", "a directory"),
    ("database_url", "mysql://me@db/jobs", "postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE"),
    ("database_url", "postgresql://me@db", "postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE"),
    ("job_concurrency", "-1", "a whole number from 0 to 1024"),
    ("job_ttl", "-1", "a number from 0 to"),
    ("max_jobs", "-1", "a whole number from 0 to"),
    ("key_jobs", "x", "a whole number from 0 to"),
    ("allow_url_fetch", "some", "true or false"),
    ("webhook_host", "https://hooks.example.org", "names without a port"),
    ("audio_storage", "/somewhere", "a URL that fsspec supports, such as s3://BUCKET/PATH"),
    ("webhook_secret", "too-short", "at least 16 visible characters"),
    ("result_cache", "2", "true or false"),
    ("max_sessions", "-1", "a whole number from 0 to"),
    ("key_sessions", "some", "a whole number from 0 to"),
    ("session_idle_timeout", "0", "a number from 1 to"),
    ("max_session_seconds", "0.5", "a number from 1 to"),
]
KUBERNETES = {
    "PORT": "tcp://10.0.0.1:5000",
    "SERVICE_HOST": "10.0.0.1",
    "SERVICE_PORT": "5000",
    "SERVICE_PORT_HTTP": "5000",
    "PORT_5000_TCP": "tcp://10.0.0.1:5000",
    "PORT_5000_TCP_PROTO": "tcp",
    "PORT_5000_TCP_PORT": "5000",
    "PORT_5000_TCP_ADDR": "10.0.0.1",
    "PORT_53_UDP": "udp://10.0.0.1:53",
}


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(name: str, text: str) -> str:
    return "the value" if name in SECRETS else repr(text)


def _error(argv: list[str], environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(argv, environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_apply_without_flags_and_variables() -> None:
    assert Settings.load([], {}) == Settings()


def settings_with(name: str, value: Any) -> Settings:
    return Settings(**{name: value})


def test_every_setting_is_tested() -> None:
    assert list(ALLOWED) == NAMES
    assert {name for name, _, _ in REFUSED} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_flag_and_variable_set_the_same_value(name: str) -> None:
    text, value = ALLOWED[name]
    flags = [SWITCHES[name]] if name in SWITCHES else [_flag(name), text]
    expected = settings_with(name, value)
    assert expected != Settings()
    assert Settings.load(flags, {}) == expected
    assert Settings.load([], {_variable(name): text}) == expected


@pytest.mark.parametrize("name", NAMES)
def test_flag_and_variable_have_the_same_type_of_value(name: str) -> None:
    assert type(getattr(Settings.load([], {_variable(name): ALLOWED[name][0]}), name)) is type(ALLOWED[name][1])


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(ALLOWED[name][1], tuple)])
def test_flag_with_several_values_can_be_repeated(name: str) -> None:
    first, second = (text.strip() for text in ALLOWED[name][0].split(","))
    loaded = Settings.load([_flag(name), first, _flag(name), second], {_variable(name): first})
    assert getattr(loaded, name) == ALLOWED[name][1]


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Settings.load(["--api-key", SECRET, "--help"], {_variable("api_key"): SECRET})
    assert SECRET not in capsys.readouterr().out
    assert SECRET not in repr(Settings(api_key=(SECRET,)))


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_alias_sets_the_value_as_flag_and_as_variable(alias: str, name: str) -> None:
    text, value = ALLOWED[name]
    flags = [SWITCHES[name].replace(_flag(name)[2:], _flag(alias)[2:])] if name in SWITCHES else [_flag(alias), text]
    assert Settings.load(flags, {}) == Settings.load([], {_variable(alias): text}) == settings_with(name, value)


def test_current_name_overrides_the_alias() -> None:
    assert Settings.load(["--measure", "--no-autotune"], {}) == Settings(autotune=False)
    assert Settings.load(["--no-autotune", "--measure"], {}) == Settings(autotune=False)
    for variables in ({"MEASURE": "yes", "AUTOTUNE": "no"}, {"AUTOTUNE": "no", "MEASURE": "yes"}):
        assert Settings.load([], {PREFIX + name: text for name, text in variables.items()}) == Settings(autotune=False)


def test_alias_as_flag_overrides_the_variable_of_the_current_name() -> None:
    loaded = Settings.load(["--max-waiting-seconds", "60"], {_variable("max_queued_audio_seconds"): "30"})
    assert loaded == Settings(max_queued_audio_seconds=60.0)


def test_error_names_the_alias_that_was_given() -> None:
    assert _error(["--max-waiting-seconds", "0"], {}).startswith("--max-waiting-seconds: '0' is not allowed")
    assert _error([], {_variable("measure"): "2"}).startswith("WHISPER_SERVER_MEASURE: '2' is not allowed")


def test_help_lists_no_alias(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Settings.load(["--help-all"], {})
    assert not any(_flag(alias) + " " in capsys.readouterr().out for alias in ALIASES)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("4g", 4 * 10**9), ("3500MB", 3500 * 10**6), ("123456", 123456)])
def test_memory_is_bytes_with_decimal_units(text: str, size: int) -> None:
    assert Settings.load(["--memory-limit", text], {}).memory_limit == size


def test_device_can_be_several_gpus() -> None:
    assert Settings.load(["--device", "CUDA:0,1"], {}).device == "cuda:0,1"


def test_flags_override_the_environment() -> None:
    environ = {_variable("port"): "1", _variable("detail"): "true", _variable("offline"): "yes", _variable("host"): "a"}
    loaded = Settings.load(["--port=2", "--no-detail", "--no-offline"], environ)
    assert loaded == Settings(port=2, detail=False, offline=False, host="a")


def test_wrong_variable_is_an_error_even_if_a_flag_overrides_it() -> None:
    assert _error(["--port", "1"], {_variable("port"): "x"}).startswith("WHISPER_SERVER_PORT: 'x' ")


@pytest.mark.parametrize("name", NAMES)
def test_empty_variable_counts_as_unset(name: str) -> None:
    assert Settings.load([], {_variable(name): ""}) == Settings()


def test_variables_of_other_programs_are_ignored() -> None:
    assert Settings.load([], {"PORT": "x", "WHISPER_PORT": "x", "whisper_server_port": "x"}) == Settings()


@pytest.mark.parametrize(("name", "text", "allowed"), REFUSED)
def test_error_names_the_variable_its_value_and_what_is_allowed(name: str, text: str, allowed: str) -> None:
    message = _error([], {_variable(name): text})
    assert message.startswith(f"{_variable(name)}: {_shown(name, text)} is not allowed; expected {allowed}")


@pytest.mark.parametrize(("name", "text", "allowed"), [case for case in REFUSED if case[0] not in SWITCHES])
def test_error_names_the_flag_its_value_and_what_is_allowed(name: str, text: str, allowed: str) -> None:
    message = _error([_flag(name), text], {})
    assert message.startswith(f"{_flag(name)}: {_shown(name, text)} is not allowed; expected {allowed}")


@pytest.mark.parametrize("name", ["model", "host", "port", "device", "compute_type", "log_level"])
def test_empty_flag_is_an_error(name: str) -> None:
    assert _error([_flag(name), ""], {}).startswith(f"{_flag(name)}: '' is not allowed")


def test_models_dir_expands_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert Settings.load(["--models-dir", "~/models"], {}).models_dir == Path("/home/me/models")


def test_unknown_variable_is_an_error_that_lists_the_settings() -> None:
    message = _error([], {"WHISPER_SERVER_FOO": "1"})
    assert message.startswith("WHISPER_SERVER_FOO is not a setting of whisper-server")
    assert all(_variable(name) in message for name in NAMES)


@pytest.mark.parametrize("name", ["PORTS", "SERVICE", "MY_PORT", "PORT_5000", "GPU_PORT_TCP", "SERVICE_HOSTS"])
def test_variable_that_resembles_one_of_kubernetes_is_an_error(name: str) -> None:
    assert PREFIX + name in _error([], {PREFIX + name: "1"})


@pytest.mark.parametrize("service", ["", "GPU_"])
@pytest.mark.parametrize("name", KUBERNETES)
def test_variables_injected_by_kubernetes_are_ignored(name: str, service: str) -> None:
    assert Settings.load([], {f"{PREFIX}{service}{name}": KUBERNETES[name]}) == Settings()


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--zzz"], "--zzz"),
        (["--zzz=1"], "--zzz"),
        (["nope"], "nope"),
        (["-p", "1"], "-p"),
        (["--port", "1", "2"], "2"),
    ],
)
def test_unknown_arguments_are_errors(argv: list[str], shown: str) -> None:
    assert _error(argv, {}) == f"unknown argument {shown}. What to do: run whisper-server --help"


def test_a_misspelt_flag_has_a_suggestion_and_its_value_is_not_shown() -> None:
    assert _error(["--api-kee=secret"], {}) == "unknown argument --api-kee. What to do: did you mean --api-key?"


@pytest.mark.parametrize("argv", [["--por", "1"], ["--off"], ["--max-upload", "1"], ["--vers"], ["--hel"]])
def test_abbreviated_flags_are_errors(argv: list[str]) -> None:
    assert argv[0] in _error(argv, {})


def test_flag_without_its_value_is_an_error() -> None:
    assert "--port" in _error(["--port"], {})


def test_switch_with_a_value_is_an_error() -> None:
    assert "--offline" in _error(["--offline=yes"], {})


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        Settings.load(["--version"], {})
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"whisper-server {__version__}\n"


def shown_help(flag: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        Settings.load([flag], {})
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_help_has_the_commands_and_the_common_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = shown_help("--help", capsys)
    assert len(shown.splitlines()) < 60
    commands = ["serve", "check", "pull", "models", "key", "submit", "listen"]
    assert re.findall(r"^  (\w+) {2,}", shown, re.MULTILINE) == commands
    assert "--model …" in shown and "--max-uploads" not in shown


def test_complete_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_help("--help-all", capsys)
    assert all(_flag(name) in shown for name in NAMES)


def test_every_setting_is_in_one_group_of_the_help() -> None:
    grouped = [name for names in GROUPS.values() for name in names.replace("|", " ").split()]
    assert sorted(grouped) == sorted(NAMES)


def test_help_can_have_a_percent_sign_in_a_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/100%/s")
    assert "/100%/s" in shown_help("--help-all", capsys).replace("\n", "")


def _run(*argv: str, home: Path, **environ: str) -> CompletedProcess[str]:
    """Run the program without the settings of this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(program.SETTINGS)}
    return program.run(*argv, cwd=home, environ={**kept, "HOME": str(home), **environ})


def _fails(run: CompletedProcess[str], status: int) -> str:
    """Return the only line of output, with its hint if there is one."""
    assert (run.returncode, run.stdout) == (status, ""), run.stderr
    line, *hint = run.stderr.splitlines()
    assert line.startswith("whisper-server: ")
    assert [text[:4] for text in hint] in ([], ["  → "]), run.stderr
    return "\n".join([line, *hint])


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_program_that_prints_information_exits_0(flag: str, tmp_path: Path) -> None:
    run = _run(flag, home=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "whisper-server" in run.stdout


@pytest.mark.parametrize(
    ("command", "hint"), [("lissten", "did you mean listen?"), ("frobnicate", "run whisper-server --help")]
)
def test_program_with_an_unknown_command_exits_2(command: str, hint: str, tmp_path: Path) -> None:
    message = _fails(_run(command, "talk.mp3", home=tmp_path), 2)
    assert message == f"whisper-server: unknown command {command!r}\n  → {hint}"


@pytest.mark.parametrize("command", ["serve", "check"])
def test_serve_and_check_are_commands(command: str, tmp_path: Path) -> None:
    assert "--port: 'x' is not allowed" in _fails(_run(command, "--port", "x", home=tmp_path), 2)


def test_program_suggests_the_name_of_a_similar_model(tmp_path: Path) -> None:
    message = _fails(_run("--model", "tinyen", "--offline", "--port", "0", home=tmp_path), 2)
    assert "\n  → use --model tiny.en, if you mean that" in message


def test_program_with_a_wrong_flag_exits_2(tmp_path: Path) -> None:
    message = _fails(_run("--port", "x", home=tmp_path), 2)
    assert message == "whisper-server: --port: 'x' is not allowed; expected a whole number from 0 to 65535"


def test_program_with_an_unknown_variable_exits_2(tmp_path: Path) -> None:
    assert "WHISPER_SERVER_FOO" in _fails(_run(home=tmp_path, WHISPER_SERVER_FOO="1"), 2)


def test_program_with_an_unknown_model_exits_2_with_a_hint(tmp_path: Path) -> None:
    message = _fails(_run("--model", "nosuchmodel", "--offline", "--port", "0", home=tmp_path), 2)
    assert "'nosuchmodel' not found" in message
    assert str(tmp_path / ".cache" / "whisper-server" / "models" / "nosuchmodel") in message
    assert "tiny.en" in message and "a CTranslate2 directory" in message


@pytest.mark.parametrize("model", ["~nosuchuser/model", "x" * 300])
def test_program_with_an_impossible_model_exits_2(model: str, tmp_path: Path) -> None:
    assert model in _fails(_run("--model", model, "--offline", "--port", "0", home=tmp_path), 2)


def test_offline_program_without_its_model_exits_2_with_a_hint(tmp_path: Path) -> None:
    message = _fails(_run("--model", "large-v3", "--offline", "--port", "0", home=tmp_path), 2)
    assert "Systran/faster-whisper-large-v3 in the Hugging Face cache" in message
    assert "start once with a connection and without --offline" in message


def test_program_with_a_missing_device_exits_2(tmp_path: Path) -> None:
    assert "cuda:99" in _fails(_run("--device", "cuda:99", "--offline", "--port", "0", home=tmp_path), 2)


def test_program_with_a_directory_that_is_not_a_model_exits_1(tmp_path: Path) -> None:
    message = _fails(_run("--model", str(tmp_path), "--offline", "--port", "0", home=tmp_path), 1)
    cause = f"{tmp_path} is not a CTranslate2 model: it has no model.bin"
    assert message == f"whisper-server: {cause}\n  → {ModelIncomplete.hint}"


def test_program_whose_port_is_in_use_exits_1_before_it_loads_a_model(port_in_use: int, tmp_path: Path) -> None:
    message = _fails(_run("--model", "nosuchmodel", "--offline", "--port", str(port_in_use), home=tmp_path), 1)
    assert message.startswith(f"whisper-server: cannot listen on 127.0.0.1 port {port_in_use}: ")


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "x" * 64])
def test_program_that_cannot_listen_on_the_host_exits_1(host: str, tmp_path: Path) -> None:
    message = _fails(_run("--host", host, "--port", "0", "--offline", home=tmp_path), 1)
    assert message.startswith(f"whisper-server: cannot listen on {host} port 0: ")


def test_program_that_other_machines_can_reach_requires_a_key(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::"):
        message = _fails(_run("--host", host, "--port", "0", "--offline", home=tmp_path), 2)
        assert message.startswith(f"whisper-server: {host} can be reached from other machines and there is no key")
    for flags in (["--no-auth"], ["--api-key", SECRET]):
        run = _run("--host", "0.0.0.0", "--port", "0", "--offline", "--model", "nosuchmodel", *flags, home=tmp_path)
        assert "'nosuchmodel' not found" in _fails(run, 2)
        assert SECRET not in run.stderr


def test_program_with_an_unreadable_key_file_exits_2(tmp_path: Path) -> None:
    message = _fails(_run("--api-key-file", "keys", "--port", "0", "--offline", home=tmp_path), 2)
    assert message == "whisper-server: cannot read the keys in keys: No such file or directory"


@pytest.mark.parametrize("flags", [["--webhook-host", "a.lan"], ["--audio-storage", "nosuch://bucket"]])
def test_program_with_wrong_settings_of_jobs_exits_2_before_it_loads_a_model(flags: list[str], tmp_path: Path) -> None:
    run = _run(*flags, "--model", "nosuchmodel", "--offline", "--port", "0", home=tmp_path)
    assert flags[0] in _fails(run, 2)


def test_program_with_a_broken_certificate_exits_2(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("none")
    for flags in (["--ssl-certfile", "nowhere.pem"], ["--ssl-certfile", "cert.pem"], ["--ssl-keyfile", "cert.pem"]):
        message = _fails(_run(*flags, "--port", "0", "--offline", home=tmp_path), 2)
        assert "--ssl-certfile" in message or f"cannot use the certificate {flags[1]}" in message
