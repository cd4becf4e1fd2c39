"""The server's settings: one field is one flag, one environment variable and one line of the help."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

from whisper_server import __version__

PREFIX = "WHISPER_SERVER_"
COMPUTE_TYPES = (
    "auto",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
    "float32",
)
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


class SettingsError(ValueError):
    """A setting is wrong; the message is one sentence for the operator."""


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text.lower()

    return parse


def _number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], Any]:
    def parse(text: str) -> int | float:
        allowed = f"{'a whole number' if kind is int else 'a number'} from {low} to {high}"
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(allowed) from None
        if not low <= value <= high:
            raise ValueError(allowed)
        return value

    return parse


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("true or false")


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3}(,\d{1,3})*)?", text.lower(), re.ASCII):
        raise ValueError("auto, cpu, cuda, cuda:N or cuda:N,M")
    indices = [int(index) for index in re.findall(r"\d+", text)]
    if len(set(indices)) < len(indices):
        raise ValueError("each card once")
    return text.lower()


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?)([KMGT]?)B?", text.strip().upper(), re.ASCII)
    if not found:
        raise ValueError("bytes such as 4G, 3500M or 4000000000; 0 is no limit")
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2] or " "))


def _name(text: str) -> str:
    if not text.strip():
        raise ValueError("a name")
    return text


def _many(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Several values with commas between them; a flag may also be given several times."""
    return lambda text: tuple(parse(part.strip()) for part in text.split(","))


def _key(text: str) -> str:
    """Short ones could be guessed, and others could not be sent in a header."""
    if not re.fullmatch(r"[!-~]{16,512}", text, re.ASCII):
        raise ValueError("keys of at least 16 visible characters, with commas between them")
    return text


def _host(text: str) -> str:
    if not re.fullmatch(r"\*|(\*\.)?[a-z0-9]([a-z0-9._-]*[a-z0-9])?", text.lower(), re.ASCII):
        raise ValueError("names without a port, such as whisper.example.org or *.example.org, or *")
    return text.lower()


def _database(text: str) -> str:
    if not re.match(r"postgres(ql)?://[^/\s]*/\S|sqlite:///\S", text):
        raise ValueError("postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE")
    return re.sub("^postgres://", "postgresql://", text)


def _storage(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", text):
        raise ValueError("an address that fsspec knows, such as s3://BUCKET/PATH")
    return text


def _secret(text: str) -> str:
    if not re.fullmatch(r"[!-~]{16,512}", text, re.ASCII):
        raise ValueError("at least 16 visible characters")
    return text


def _origin(text: str) -> str:
    if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s,@]+", text.lower(), re.ASCII):
        raise ValueError("origins such as https://example.org, or *")
    return text.lower()


def _rate(text: str) -> str:
    if not re.fullmatch(r"none|[1-9]\d{0,8}/(second|minute|hour|day)", text.lower(), re.ASCII):
        raise ValueError("none or a number in a second, minute, hour or day, such as 60/minute")
    return text.lower()


def _root_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text, re.ASCII):
        raise ValueError("a path such as /whisper")
    return text


def _file(text: str) -> Path:
    path = os.path.expanduser(text)
    if not path.strip() or path.startswith("~"):
        raise ValueError("a file")
    return Path(path)


def _folder(text: str) -> Path:
    path = os.path.expanduser(text)
    if not path.strip() or path.startswith("~"):
        raise ValueError("a directory")
    return Path(path)


def cache_dir() -> Path:
    """Where this user's programs keep what they can make again (XDG base directories)."""
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"), "whisper-server")


def data_dir() -> Path:
    """Where this user's programs keep what they cannot make again."""
    return Path(os.path.expanduser(os.environ.get("XDG_DATA_HOME") or "~/.local/share"), "whisper-server")


def _setting(default: Any, parse: Callable[[str], Any], help: str, *, secret: bool = False) -> Any:
    """A secret is never shown, not even when it is wrong."""
    metadata = {"parse": parse, "help": help, "secret": secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    model: str = _setting("medium", _name, "a model's name, a Hugging Face repository id or a CTranslate2 directory")
    host: str = _setting("127.0.0.1", _name, "the address to listen on")
    port: int = _setting(5000, _number(int, 0, 65535), "the port to listen on; 0 takes any free one")
    device: str = _setting("auto", _device, "auto, cpu, cuda, cuda:N or cuda:N,M")
    compute_type: str = _setting(
        "auto", _one_of(*COMPUTE_TYPES), "auto (the best that fits on CUDA, int8 on CPU) or a CTranslate2 type"
    )
    memory_limit: int = _setting(0, _bytes, "the most memory that models may take, such as 4G; 0 is what is free")
    cpu_fallback: bool = _setting(True, _switch, "go on with the CPU while a card has no memory left")
    idle_unload: float = _setting(
        0.0, _number(float, 0, 10_000_000), "seconds without requests until a card's weights go to RAM; 0 is never"
    )
    idle_release: float = _setting(
        0.0, _number(float, 0, 10_000_000), "seconds without requests until the weights are dropped; 0 is never"
    )
    lazy_load: bool = _setting(False, _switch, "load the model with the first request")
    cpu_threads: int = _setting(0, _number(int, 0, 1024), "threads for the model in total; 0 is one for each CPU")
    workers: int = _setting(0, _number(int, 0, 1024), "workers that share the model; 0 is what is fastest here")
    max_batch_size: int = _setting(
        0, _number(int, 0, 256), "windows that a worker takes at once; 0 is what is fastest here"
    )
    measure: bool = _setting(True, _switch, "find out at a model's first start what is fastest on this machine's CPUs")
    encoder_window: Literal["full", "adaptive"] = _setting(
        "full", _one_of("full", "adaptive"), "full, or adaptive: as long as the sound, unless a request says"
    )
    models_dir: Path = _setting(
        lambda: cache_dir() / "models", _folder, "the directory that scripts/convert_models.py writes to"
    )
    on_demand_models: bool = _setting(False, _switch, "load other models when a /v1 request names them")
    max_loaded_models: int = _setting(
        1, _number(int, 1, 100), "models that are loaded on demand at a time; the longest unused one goes"
    )
    offline: bool = _setting(False, _switch, "never download a model")
    detail: bool = _setting(True, _switch, "answer with segments unless a request says detail=false")
    max_upload_bytes: int = _setting(2 * 1024**3, _number(int, 1, 2**50), "the largest request body")
    max_audio_seconds: float = _setting(4 * 3600.0, _number(float, 1, 10_000_000), "the longest audio")
    max_requests: int = _setting(64, _number(int, 1, 10_000), "requests at a time; more get a 503 with Retry-After")
    max_waiting_seconds: float = _setting(
        24 * 3600.0, _number(float, 1, 100_000_000), "audio that all requests together may bring, in seconds"
    )
    request_timeout: float = _setting(
        0.0, _number(float, 0, 10_000_000), "seconds that a request may take after its upload; 0 is no limit"
    )
    shutdown_timeout: int = _setting(30, _number(int, 0, 86_400), "seconds that running requests get to finish")
    log_level: str = _setting("info", _one_of(*LOG_LEVELS), "debug, info, warning or error")
    log_format: str = _setting("text", _one_of(*LOG_FORMATS), "text, or json: an object a line")
    api_key: tuple[str, ...] = _setting(
        (), _many(_key), "a key that opens the server; its variable hides it from ps", secret=True
    )
    api_key_file: Path | None = _setting(None, _file, "a file of the lines that `whisper-server key NAME` makes")
    auth: bool = _setting(True, _switch, "listen beyond this machine only with a key")
    key_concurrency: int = _setting(0, _number(int, 0, 10_000), "requests of one key at a time; 0 is no limit")
    key_rate: str = _setting("none", _rate, "requests of one key in a time, such as 60/minute")
    allow_host: tuple[str, ...] = _setting(
        (), _many(_host), "a name that clients may use for this server, beside localhost and addresses"
    )
    allow_origin: tuple[str, ...] = _setting((), _many(_origin), "the origin of a web page that may use this server")
    ssl_certfile: Path | None = _setting(None, _file, "the certificate (PEM, with its chain) for https")
    ssl_keyfile: Path | None = _setting(None, _file, "the certificate's private key, if it is not in the same file")
    root_path: str = _setting("", _root_path, "the path under which a proxy serves this server")
    max_uploads: int = _setting(256, _number(int, 1, 100_000), "uploads at a time; more get a 503 with Retry-After")
    receive_timeout: float = _setting(60.0, _number(float, 0.1, 86_400), "seconds without a byte that end an upload")
    jobs: bool = _setting(True, _switch, "take jobs, which are kept on the disk")
    data_dir: Path = _setting(data_dir, _folder, "the directory that keeps jobs and their files")
    database_url: str = _setting(
        "", _database, "a database for jobs instead of a file in --data-dir, for several servers", secret=True
    )
    audio_storage: str = _setting(
        "", _storage, "where jobs' files are kept instead of --data-dir, for several servers", secret=True
    )
    job_concurrency: int = _setting(2, _number(int, 0, 1024), "jobs at a time; 0 takes jobs and leaves them to others")
    job_ttl: float = _setting(
        7 * 86_400.0, _number(float, 0, 1_000_000_000), "seconds that a job is kept after its end; 0 is for ever"
    )
    max_jobs: int = _setting(10_000, _number(int, 0, 10_000_000), "unfinished jobs at a time; 0 is no limit")
    key_jobs: int = _setting(0, _number(int, 0, 10_000_000), "unfinished jobs of one key at a time; 0 is no limit")
    allow_url_fetch: bool = _setting(False, _switch, "fetch the audio of jobs from public addresses")
    callback_host: tuple[str, ...] = _setting((), _many(_host), "a host that may be told when a job ends")
    callback_secret: str = _setting("", _secret, "what signs these callbacks", secret=True)
    result_cache: bool = _setting(False, _switch, "keep results for jobs of the same audio, model and options")

    max_sessions: int = _setting(
        16, _number(int, 0, 10_000), "live sessions at a time; more get a 503 with Retry-After, and with 0 all do"
    )
    key_sessions: int = _setting(0, _number(int, 0, 10_000), "live sessions of one key at a time; 0 is no limit")
    session_idle_timeout: float = _setting(
        300.0, _number(float, 1, 86_400), "seconds in which a live session's client sends nothing that end it"
    )
    max_session_seconds: float = _setting(
        3600.0, _number(float, 1, 10_000_000), "the longest that a live session may last"
    )

    @classmethod
    def load(cls, argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
        """Read the command line over the environment over the defaults; raises SettingsError."""
        values = _read_environment(environ)
        flags = {k: v for k, v in vars(_parser().parse_args(argv)).items() if v is not None}
        return cls(**{**values, **flags})


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    settings = {_variable(f.name): f for f in fields(Settings)}
    values = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or not text or _is_kubernetes_service(variable, text):
            continue
        if variable not in settings:
            known = ", ".join(sorted(settings))
            raise SettingsError(f"{variable} is not a setting of whisper-server; there are {known}")
        values[settings[variable].name] = _parsed(variable, text, settings[variable].metadata)
    return values


def _is_kubernetes_service(variable: str, text: str) -> bool:
    """Whether Kubernetes injected it for a service that happens to be called whisper-server(-…)."""
    if re.search(r"_SERVICE_(HOST|PORT)(_|$)", variable):
        return True
    if re.search(r"_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$", variable):
        return True
    return variable.endswith("_PORT") and re.match(r"(tcp|udp|sctp)://", text) is not None


def _parsed(source: str, text: str, metadata: Mapping[str, Any]) -> Any:
    try:
        return metadata["parse"](text)
    except ValueError as exc:
        shown = "the value" if metadata["secret"] else repr(text)
        raise SettingsError(f"{source}: {shown} is not allowed; expected {exc}") from None


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(message)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="whisper-server",
        description="Serve a Whisper model over HTTP. `whisper-server key --help` is about making keys, "
        "`whisper-server listen --help` about live transcription by a server, `whisper-server submit --help` about its "
        "jobs.",
        epilog=f"Every flag has an environment variable: --max-upload-bytes is {PREFIX}MAX_UPLOAD_BYTES.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"whisper-server {__version__}")
    # The command line takes it away before it reads the settings; here it is for the help.
    parser.add_argument("--check", action="store_true", default=argparse.SUPPRESS, help="say whether this can serve")
    for f in fields(Settings):
        flag = "--" + f.name.replace("_", "-")
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        shown = "none" if default in (None, (), "") else default
        help = f"{f.metadata['help']} (default: {shown})".replace("%", "%%")
        if f.metadata["parse"] is _switch:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=help)
        else:
            parser.add_argument(flag, action=_Store, metadata=f.metadata, metavar="…", help=help)
    return parser


class _Store(argparse.Action):
    """Parses with the setting's own parser, so that flags and environment get the same sentence.

    Of several values, those of a flag that is given again are added.
    """

    def __init__(self, *args: Any, metadata: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metadata = metadata

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        value = _parsed(option_string or self.dest, values, self._metadata)
        if isinstance(value, tuple):
            value = (*(getattr(namespace, self.dest) or ()), *value)
        setattr(namespace, self.dest, value)
