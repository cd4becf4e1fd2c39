"""The server's settings: each field is a flag, an environment variable and a line of the help."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

from whisper_server import __version__
from whisper_server.core import setting_parsers as parse
from whisper_server.core.errors import SettingsError as SettingsError

PREFIX = "WHISPER_SERVER_"
# Settings by their former names, which still work as flags and as variables.
ALIASES: Mapping[str, str] = {
    "measure": "autotune",
    "max_waiting_seconds": "max_queued_audio_seconds",
    "callback_host": "webhook_host",
    "callback_secret": "webhook_secret",
}
_INT8_TYPES = ("int8", "int8_float32", "int8_float16", "int8_bfloat16")
COMPUTE_TYPES = ("auto", *_INT8_TYPES, "int16", "float16", "bfloat16", "float32")
# For --help: the title and the settings of each group, with those that only --help-all shows after the bar.
GROUPS: Mapping[str, str] = {
    "model": "model device compute_type memory_limit offline | models_dir cpu_fallback idle_unload idle_release "
    "lazy_load cpu_threads workers max_batch_size autotune encoder_window on_demand_models max_loaded_models detail",
    "network": "host port ssl_certfile wyoming | ssl_keyfile root_path shutdown_timeout wyoming_zeroconf",
    "security": "api_key_file auth | allow_host allow_origin api_key key_concurrency key_rate key_sessions key_jobs",
    "jobs": "data_dir | jobs job_ttl job_concurrency max_jobs database_url audio_storage allow_url_fetch webhook_host "
    "webhook_secret result_cache",
    "live sessions": "max_sessions | session_idle_timeout max_session_seconds",
    "limits": "max_requests max_upload_bytes | max_audio_seconds max_queued_audio_seconds request_timeout max_uploads "
    "receive_timeout",
    "log": "log_level | log_format",
}
LOG_LEVELS = ("debug", "info", "warning", "error")


def cache_dir() -> Path:
    """The directory for files that can be created again (XDG base directories)."""
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"), "whisper-server")


def data_dir() -> Path:
    """The directory for files that cannot be created again."""
    return Path(os.path.expanduser(os.environ.get("XDG_DATA_HOME") or "~/.local/share"), "whisper-server")


def _setting(default: Any, parser: Callable[[str], Any], help: str, *, secret: bool = False) -> Any:
    """Declare a setting. A secret is never shown, not even in an error message."""
    metadata = {"parse": parser, "help": help, "secret": secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata, repr=not secret)


def _seconds(default: float, help: str, *, low: float = 0, high: float = 10_000_000) -> Any:
    return _setting(default, parse.number(float, low, high), help)


def _count(default: int, low: int, high: int, help: str) -> Any:
    return _setting(default, parse.number(int, low, high), help)


def _switch(default: bool, help: str) -> Any:
    return _setting(default, parse.boolean, help)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    model: str = _setting("medium", parse.name, "model name, Hugging Face repository ID or CTranslate2 directory")
    host: str = _setting("127.0.0.1", parse.name, "address to listen on")
    port: int = _count(5000, 0, 65535, "port, or 0 for a free one")
    device: str = _setting("auto", parse.device, "auto, cpu, cuda, cuda:N or cuda:N,M")
    compute_type: str = _setting(
        "auto", parse.one_of(*COMPUTE_TYPES), "auto (the best that fits on CUDA, int8 on a CPU) or a CTranslate2 type"
    )
    memory_limit: int = _setting(0, parse.byte_count, "maximum memory for models, such as 4G; 0 is all free memory")
    cpu_fallback: bool = _switch(True, "use the CPU while a GPU is out of memory")
    idle_unload: float = _seconds(
        0.0, "seconds without requests until the weights move from the GPU to RAM; 0 is never"
    )
    idle_release: float = _seconds(0.0, "seconds without requests until the weights are released; 0 is never")
    lazy_load: bool = _switch(False, "load the model on the first request")
    cpu_threads: int = _count(0, 0, 1024, "total CPU threads for the model; 0 is one per CPU")
    workers: int = _count(0, 0, 1024, "workers that share the model; 0 is the fastest number")
    max_batch_size: int = _count(0, 0, 256, "windows that a worker decodes at once; 0 is the fastest number")
    autotune: bool = _switch(True, "measure, at a model's first start, what is fastest on this machine's CPUs")
    encoder_window: Literal["full", "adaptive"] = _setting(
        "full",
        parse.one_of("full", "adaptive"),
        "full (30 s), or adaptive: as long as the audio; a request can override it",
    )
    models_dir: Path = _setting(
        lambda: cache_dir() / "models", parse.directory, "directory of the models that scripts/convert_models.py writes"
    )
    on_demand_models: bool = _switch(False, "load other models when a /v1 request names them")
    max_loaded_models: int = _count(
        1, 1, 100, "models loaded on demand at the same time; the least recently used one is unloaded"
    )
    offline: bool = _switch(False, "never download a model")
    detail: bool = _switch(True, "include segments in responses unless a request says detail=false")
    max_upload_bytes: int = _count(2 * 1024**3, 1, 2**50, "maximum size of a request body")
    max_audio_seconds: float = _seconds(4 * 3600.0, "maximum length of the audio", low=1)
    max_requests: int = _count(64, 1, 10_000, "concurrent requests; more get a 503")
    max_queued_audio_seconds: float = _seconds(
        24 * 3600.0, "total length of the audio of all concurrent requests, in seconds", low=1, high=100_000_000
    )
    request_timeout: float = _seconds(0.0, "seconds that a request may take after its upload; 0 is no limit")
    shutdown_timeout: int = _count(30, 0, 86_400, "seconds that running requests have to finish at a shutdown")
    log_level: str = _setting("info", parse.one_of(*LOG_LEVELS), "debug, info, warning or error")
    log_format: str = _setting("text", parse.one_of("text", "json"), "text, or json: one object per line")
    api_key: tuple[str, ...] = _setting(
        (), parse.api_keys, "API key that gives access to the server; its variable hides it from ps", secret=True
    )
    api_key_file: Path | None = _setting(None, parse.file, "file with keys, made by `whisper-server key NAME`")
    auth: bool = _switch(True, "require an API key to listen beyond this machine")
    key_concurrency: int = _count(0, 0, 10_000, "concurrent requests per key; 0 is no limit")
    key_rate: str = _setting("none", parse.rate, "maximum rate of requests per key, such as 60/minute")
    allow_host: tuple[str, ...] = _setting(
        (), parse.hosts, "host name that clients of a server without keys may use, besides local names and IP addresses"
    )
    allow_origin: tuple[str, ...] = _setting(
        (), parse.origins, "origin of the web pages and extensions that may use this server; any if it has keys"
    )
    ssl_certfile: Path | None = _setting(None, parse.file, "TLS certificate (PEM, with its chain)")
    ssl_keyfile: Path | None = _setting(None, parse.file, "private key of the certificate, if in a file of its own")
    root_path: str = _setting("", parse.root_path, "path under which a proxy serves this server")
    wyoming: str = _setting("", parse.wyoming_uri, "for Home Assistant: tcp://HOST:PORT or unix:///PATH")
    wyoming_zeroconf: bool = _switch(False, "let Home Assistant find the --wyoming address by zeroconf (mDNS)")
    max_uploads: int = _count(256, 1, 100_000, "concurrent uploads; more get a 503 with Retry-After")
    receive_timeout: float = _seconds(
        60.0, "seconds without a byte after which an upload is aborted", low=0.1, high=86_400
    )
    jobs: bool = _switch(True, "accept jobs, which are stored on disk")
    data_dir: Path = _setting(data_dir, parse.directory, "directory that stores jobs and their files")
    database_url: str = _setting(
        "", parse.database_url, "database for jobs instead of a file in --data-dir, for several servers", secret=True
    )
    audio_storage: str = _setting(
        "", parse.storage_url, "storage for the files of jobs instead of --data-dir, for several servers", secret=True
    )
    job_concurrency: int = _count(2, 0, 1024, "concurrent jobs; 0 accepts jobs and leaves them to other servers")
    job_ttl: float = _seconds(7 * 86_400.0, "seconds that a finished job is kept; 0 is forever", high=1_000_000_000)
    max_jobs: int = _count(10_000, 0, 10_000_000, "unfinished jobs at a time; 0 is no limit")
    key_jobs: int = _count(0, 0, 10_000_000, "unfinished jobs per key at a time; 0 is no limit")
    allow_url_fetch: bool = _switch(False, "download the audio of jobs from public URLs")
    webhook_host: tuple[str, ...] = _setting((), parse.hosts, "host that may receive webhooks when a job ends")
    webhook_secret: str = _setting("", parse.secret, "secret that signs the webhooks", secret=True)
    result_cache: bool = _switch(False, "reuse results for jobs with the same audio, model and options")
    max_sessions: int = _count(16, 0, 10_000, "concurrent live sessions; 0 is none")
    key_sessions: int = _count(0, 0, 10_000, "concurrent live sessions per key; 0 is no limit")
    session_idle_timeout: float = _seconds(
        300.0, "seconds without data from the client after which a live session ends", low=1, high=86_400
    )
    max_session_seconds: float = _seconds(3600.0, "maximum length of a live session, in seconds", low=1)

    @classmethod
    def load(cls, argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
        """Read the command line over the environment over the defaults; raises SettingsError."""
        return cls(**{**_read_environment(environ), **_read_flags(argv)})


class CommandLineParser(argparse.ArgumentParser):
    """Raises SettingsError where argparse would print the usage and exit, and suggests flags for misspelt ones."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(message)

    def parse_args(self, argv: Any = None, namespace: Any = None) -> Any:
        arguments, unknown = self.parse_known_args(argv, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            hint = did_you_mean(flag, self._option_string_actions) or f"run {self.prog} --help"
            raise SettingsError(f"unknown argument {flag}", hint=hint)
        return arguments


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a hint that names the most similar word, or an empty string if none is similar."""
    return next((f"did you mean {match}?" for match in get_close_matches(word, list(words), 1)), "")


def _fields() -> dict[str, Field[Any]]:
    """Return the settings by name: the aliases first, so that the current names override them."""
    current = {f.name: f for f in fields(Settings)}
    return {**{alias: current[name] for alias, name in ALIASES.items()}, **current}


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    by_variable = {_variable(name): f for name, f in _fields().items()}
    texts = {
        variable: text
        for variable, text in environ.items()
        if variable.startswith(PREFIX) and text and not _is_kubernetes_service(variable, text)
    }
    for variable in texts:
        if variable not in by_variable:
            variables = ", ".join(sorted(_variable(f.name) for f in fields(Settings)))
            raise SettingsError(f"{variable} is not a setting of whisper-server; the settings are {variables}")
    return {f.name: _convert(variable, texts[variable], f) for variable, f in by_variable.items() if variable in texts}


def _is_kubernetes_service(variable: str, text: str) -> bool:
    """Whether Kubernetes injected the variable for a service that happens to be called whisper-server(-…)."""
    if variable.endswith("_PORT") and re.match(r"(tcp|udp|sctp)://", text):
        return True
    names = r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
    return re.search(names, variable) is not None


def _read_flags(argv: Sequence[str]) -> dict[str, Any]:
    arguments = vars(_parser(complete="--help-all" in argv).parse_args(argv))
    values: dict[str, Any] = {}
    for name, f in _fields().items():
        given: bool | list[str] | None = arguments[name]
        if isinstance(given, bool):
            values[f.name] = given
        elif given is not None:
            parsed = [_convert(_flag(name), text, f) for text in given]
            # The values of a repeated flag add up if the setting has several values; otherwise the last one counts.
            values[f.name] = sum(parsed, ()) if isinstance(parsed[0], tuple) else parsed[-1]
    return values


def _convert(source: str, text: str, setting: Field[Any]) -> Any:
    try:
        return setting.metadata["parse"](text)
    except ValueError as exc:
        shown = "the value" if setting.metadata["secret"] else repr(text)
        raise SettingsError(f"{source}: {shown} is not allowed; expected {exc}") from None


_USAGE = """whisper-server [serve] [--model NAME] [OPTION…]
       whisper-server COMMAND …

commands, each with a --help of its own:
  serve     load a model and serve it; the default
  check     test the settings of serve, and say what to do if something is wrong (also --check)
  pull      download models
  models    list the models on this machine
  key       create an API key
  submit    transcribe files as jobs of a server
  listen    transcribe a file, a pipe or a microphone live through a server"""
_EXAMPLES = f"""examples:
  whisper-server --model large-v3 --device cuda --compute-type int8
  whisper-server --host 0.0.0.0 --api-key-file keys

Every option has an environment variable: --max-upload-bytes is {PREFIX}MAX_UPLOAD_BYTES."""


def _parser(*, complete: bool) -> argparse.ArgumentParser:
    """Return the parser of `serve`; its help has the common options, or all of them if `complete`."""
    parser = CommandLineParser(
        prog="whisper-server",
        usage=_USAGE,
        epilog=_EXAMPLES,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=28),
        allow_abbrev=False,
        add_help=False,
    )
    common = parser.add_argument_group("help")
    common.add_argument("-h", "--help", action="help", help="show the common options")
    common.add_argument("--help-all", action="help", help="show all options")
    common.add_argument("--version", action="version", version=f"whisper-server {__version__}", help="show the version")
    settings = _fields()
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        shown = names if complete else names.partition("|")[0]
        for name in names.replace("|", " ").split():
            _add_flag(
                group, name, settings[name], _help(settings[name]) if name in shown.split() else argparse.SUPPRESS
            )
    for name in ALIASES:
        _add_flag(parser, name, settings[name], argparse.SUPPRESS)
    return parser


def _add_flag(parser: argparse._ActionsContainer, name: str, setting: Field[Any], help: str) -> None:
    if setting.metadata["parse"] is parse.boolean:
        parser.add_argument(_flag(name), action=argparse.BooleanOptionalAction, default=None, help=help)
    else:
        parser.add_argument(_flag(name), action="append", metavar="…", help=help)


def _help(setting: Field[Any]) -> str:
    default = setting.default_factory() if setting.default_factory is not MISSING else setting.default
    if default in (None, (), "", False):
        return str(setting.metadata["help"]).replace("%", "%%")
    shown = "on" if default is True else default
    return f"{setting.metadata['help']} (default: {shown})".replace("%", "%%")
