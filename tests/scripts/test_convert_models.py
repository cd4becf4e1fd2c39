from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import convert_models as script
import pytest

from whisper_server.core.errors import ModelLoadFailed
from whisper_server.core.settings import Settings
from whisper_server.inference.models.catalogue import PACKAGES, REPOSITORIES
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver

SPECIAL_TOKENS = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
SPECIAL_TOKENS += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
TIMESTAMPS = 1501


class Converter:
    """Writes a file instead of a model; raises the given exceptions after writing."""

    def __init__(self, failing: dict[str, BaseException] | None = None) -> None:
        self.sources: list[str] = []
        self._failing = failing or {}

    def __call__(self, source: str, directory: Path, quantization: str) -> None:
        self.sources.append(source)
        directory.mkdir()
        (directory / "model.bin").write_text(f"{source} in {quantization}")
        if source in self._failing:
            raise self._failing[source]


def _accept(name: str, directory: Path) -> None:
    assert (directory / "model.bin").is_file()


def _refuse(name: str, directory: Path) -> None:
    raise ModelLoadFailed(f"model {name!r} could not be loaded")


def _run(models_dir: Path, *arguments: str, convert: Converter, verify: Callable[[str, Path], None] = _accept) -> int:
    status = script.main(["--models-dir", str(models_dir), *arguments], convert, verify, extra=())
    assert isinstance(status, int)
    return status


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the last line on stderr of a run with wrong arguments."""
    convert = Converter()
    with pytest.raises(SystemExit) as stopped:
        script.main(arguments, convert, _accept, extra=())
    assert (stopped.value.code, convert.sources) == (2, [])
    return capsys.readouterr().err.splitlines()[-1]


def _files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def _checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("model", "source", "name"),
    [
        ("openai/whisper-large-v3", "openai/whisper-large-v3", "large-v3"),
        ("distil-whisper/distil-large-v3", "distil-whisper/distil-large-v3", "distil-large-v3"),
        ("someone/whisper-small-da", "someone/whisper-small-da", "small-da"),
        ("someone/Fine_Tuned.1", "someone/Fine_Tuned.1", "Fine_Tuned.1"),
        ("tiny.en", "openai/whisper-tiny.en", "tiny.en"),
        ("large-v3", "openai/whisper-large-v3", "large-v3"),
        ("large", "openai/whisper-large-v3", "large-v3"),
        ("large-v1", "openai/whisper-large", "large-v1"),
        ("large-v3-turbo", "openai/whisper-large-v3-turbo", "large-v3-turbo"),
        ("turbo", "openai/whisper-large-v3-turbo", "large-v3-turbo"),
        ("distil-small.en", "distil-whisper/distil-small.en", "distil-small.en"),
        ("distil-large-v3", "distil-whisper/distil-large-v3", "distil-large-v3"),
    ],
)
def test_a_model_has_a_source_and_a_name(model: str, source: str, name: str) -> None:
    assert script.find_source(model) == (source, name)


@pytest.mark.parametrize("model", REPOSITORIES)
def test_every_model_name_of_the_server_is_accepted(model: str) -> None:
    assert script.find_source(model)[0].startswith(("openai/whisper-", "distil-whisper/distil-"))


def test_a_directory_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _checkpoint(tmp_path / "whisper-mine")
    assert script.find_source(str(folder)) == (str(folder), "whisper-mine")
    monkeypatch.chdir(folder)
    assert script.find_source(".") == (".", "whisper-mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert script.find_source("~/whisper-mine") == (str(folder), "whisper-mine")


def test_an_openai_checkpoint_is_named_after_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large-v3-turbo.pt").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path))
    source = str(tmp_path / "large-v3-turbo.pt")
    assert script.find_source("~/large-v3-turbo.pt") == (source, "large-v3-turbo")


def test_a_directory_takes_precedence_over_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _checkpoint(tmp_path / "tiny")
    _checkpoint(tmp_path / "openai" / "whisper-tiny")
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert script.find_source("tiny") == ("tiny", "tiny")
    assert script.find_source("openai/whisper-tiny") == ("openai/whisper-tiny", "whisper-tiny")
    assert script.find_source("base") == ("openai/whisper-base", "base")


@pytest.mark.parametrize(
    "model", ["nonesuch", "", "a/b/c", "/nowhere/model", "./model", "../model", "-/x", "a b/c", "nowhere.pt", "a/b.pt"]
)
def test_an_unknown_model_is_refused(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{model} is not a directory with a config.json" in _refused(capsys, "tiny", "--", model)


def test_a_directory_without_a_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not a directory with a config.json" in _refused(capsys, str(tmp_path))


def test_a_name_that_the_server_would_not_find_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _checkpoint(tmp_path / "my model")
    assert "'my model' cannot be the name of a model" in _refused(capsys, str(folder))


def test_two_sources_with_one_name_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    line = _refused(capsys, "small", "someone/whisper-small")
    assert line.endswith("openai/whisper-small and someone/whisper-small would both become small-float16")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: MODEL"),
        (["tiny", "--quantization", "int4"], "invalid choice: 'int4'"),
        (["tiny", "--quantization", "auto"], "invalid choice: 'auto'"),
        (["tiny", "--nonesuch"], "unrecognized arguments: --nonesuch"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint in _refused(capsys, *arguments)


def test_a_wrong_environment_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHISPER_SERVER_PORT", "x")
    assert "WHISPER_SERVER_PORT: 'x' is not allowed" in _refused(capsys, "tiny")


def test_models_are_written_to_the_models_directory_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert script.main(["tiny"], Converter(), _accept, extra=()) == 0
    assert _files(Settings().models_dir) == {"tiny-float16/model.bin": "openai/whisper-tiny in float16"}

    monkeypatch.setenv("WHISPER_SERVER_MODELS_DIR", str(tmp_path / "others"))
    assert script.main(["tiny"], Converter(), _accept, extra=()) == 0
    assert (tmp_path / "others" / "tiny-float16").is_dir()


def test_one_run_writes_several_quantizations(tmp_path: Path) -> None:
    types = ("--quantization", "int8", "--quantization", "float32")
    assert _run(tmp_path, "tiny", *types, convert=Converter()) == 0
    assert _files(tmp_path) == {
        "tiny-int8/model.bin": "openai/whisper-tiny in int8",
        "tiny-float32/model.bin": "openai/whisper-tiny in float32",
    }


@pytest.mark.parametrize(
    ("model", "name"), [("mine", "mine"), ("mine-float16", "mine"), ("tiny.en", "tiny.en"), ("path", "there")]
)
def test_requantize_accepts_the_names_of_the_server(model: str, name: str, tmp_path: Path) -> None:
    for folder in ("models/mine", "models/mine-float16", "there-float32"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.bin").write_text("")
    model = str(tmp_path / "there-float32") if model == "path" else model
    directory, plain_name = script.find_directory(model, tmp_path / "models")
    assert plain_name == name
    assert (Path(directory) / "model.bin").is_file()


def test_requantize_refuses_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert "model 'nonesuch' not found" in _refused(capsys, "--requantize", "nonesuch")


@pytest.mark.parametrize(
    ("sources", "packages"),
    [
        (["a.pt"], ["torch"]),
        (["openai/whisper-tiny"], ["torch", "transformers"]),
        (["directory"], []),
        (["directory", "a.pt"], ["torch"]),
    ],
)
def test_required_packages_depend_on_the_sources(sources: list[str], packages: list[str], tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("")
    assert script.packages_for(str(tmp_path) if source == "directory" else source for source in sources) == packages


def test_missing_packages_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert = Converter()
    arguments = ["tiny", "base", "--models-dir", str(tmp_path / "models")]
    assert script.main(arguments, convert, _accept, extra=("json", "no_such_package", "nor_this")) == 1
    assert capsys.readouterr().err == ("not installed: no_such_package, nor_this; pip install torch transformers\n")
    assert (convert.sources, list(tmp_path.iterdir())) == ([], [])


def test_each_step_prints_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, "tiny", "turbo", "turbo", "--quantization", "int8", convert=Converter()) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tiny-int8: converting openai/whisper-tiny",
        "tiny-int8: verifying",
        f"tiny-int8: 0 MB in {tmp_path}/tiny-int8",
        "large-v3-turbo-int8: converting openai/whisper-large-v3-turbo",
        "large-v3-turbo-int8: verifying",
        f"large-v3-turbo-int8: 0 MB in {tmp_path}/large-v3-turbo-int8",
    ]


def test_the_server_finds_a_model_only_after_verification(tmp_path: Path) -> None:
    resolver = ModelResolver(models_dir=tmp_path, packages=PackagedModels({}, cache_dir=tmp_path), offline=True)

    def verify(name: str, directory: Path) -> None:
        _accept(name, directory)
        assert not (tmp_path / name).exists()
        assert directory.parent.parent == tmp_path  # one file system: the move is a rename
        assert directory.parent.name.startswith(".")  # the server accepts no such name

    assert _run(tmp_path, "tiny", "--quantization", "int8", convert=Converter(), verify=verify) == 0
    assert resolver.resolve_for_client("tiny-int8") == tmp_path / "tiny-int8"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-int8"]
    (tmp_path / "ordinary").mkdir()
    assert (tmp_path / "tiny-int8").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_an_existing_model_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(tmp_path, "tiny", convert=Converter())
    before = _files(tmp_path)
    convert = Converter()
    assert _run(tmp_path, "tiny", "base", convert=convert) == 1
    line = f"tiny-float16: failed: {tmp_path}/tiny-float16 exists; --force replaces it (FileExistsError)\n"
    assert capsys.readouterr().err == line
    assert convert.sources == ["openai/whisper-base"]
    assert _files(tmp_path) == before | {"base-float16/model.bin": "openai/whisper-base in float16"}


def test_a_model_that_another_run_writes_meanwhile_is_kept(tmp_path: Path) -> None:
    def verify(name: str, directory: Path) -> None:
        _run(tmp_path, "tiny", convert=Converter())
        (directory / "model.bin").write_text("the slower one")

    assert _run(tmp_path, "tiny", convert=Converter(), verify=verify) == 1
    assert _files(tmp_path) == {"tiny-float16/model.bin": "openai/whisper-tiny in float16"}


@pytest.mark.parametrize("existing", ["directory", "file", "broken link"])
def test_force_replaces_whatever_is_there(existing: str, tmp_path: Path) -> None:
    target = tmp_path / "tiny-float16"
    if existing == "directory":
        target.mkdir()
        (target / "old").write_text("old")
    elif existing == "file":
        target.write_text("old")
    else:
        target.symlink_to(tmp_path / "nowhere")
    assert _run(tmp_path, "tiny", convert=Converter()) == 1
    assert _run(tmp_path, "tiny", "--force", convert=Converter()) == 0
    assert _files(tmp_path) == {"tiny-float16/model.bin": "openai/whisper-tiny in float16"}
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-float16"]


def test_force_keeps_the_old_model_if_the_new_one_fails(tmp_path: Path) -> None:
    _run(tmp_path, "tiny", convert=Converter())
    before = _files(tmp_path)
    failing = Converter({"openai/whisper-tiny": OSError("disk full")})
    assert _run(tmp_path, "tiny", "--force", convert=failing) == 1
    assert _run(tmp_path, "tiny", "--force", convert=Converter(), verify=_refuse) == 1
    assert _files(tmp_path) == before


def test_other_models_are_converted_after_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = Converter({"openai/whisper-tiny": RuntimeError("in the\n\n  middle"), "openai/whisper-base": KeyError()})
    assert _run(tmp_path, "tiny", "base", "small", convert=failing) == 1
    assert capsys.readouterr().err == (
        "tiny-float16: failed: in the middle (RuntimeError)\nbase-float16: failed: (KeyError)\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["small-float16"]


def test_a_model_that_fails_verification_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, "tiny", convert=Converter(), verify=_refuse) == 1
    line = "tiny-float16: failed: model 'tiny-float16' could not be loaded (ModelLoadFailed)\n"
    assert capsys.readouterr().err == line
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    stopped = Converter({"openai/whisper-tiny": SystemExit(143)})
    with pytest.raises(SystemExit):
        _run(tmp_path, "tiny", "base", convert=stopped)
    assert (stopped.sources, list(tmp_path.iterdir())) == (["openai/whisper-tiny"], [])


def test_verification_transcribes_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packages = PackagedModels({"tiny.en": PACKAGES["tiny.en"]}, cache_dir=tmp_path)
    good = packages.find("tiny.en")
    assert good is not None
    script.verify("good", good)
    assert "good: transcribed 'The kettle is on the stove" in capsys.readouterr().out
    bad = shutil.copytree(good, tmp_path / "bad")
    (bad / "model.bin").write_bytes(b"not a model")
    with pytest.raises(ModelLoadFailed):
        script.verify("bad", bad)


@pytest.mark.parametrize(("lang_ids", "expected"), [([], [2, 3]), ([7, 8], [7, 8])])
def test_missing_language_tokens_are_added(lang_ids: list[int], expected: list[int], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"lang_ids": lang_ids, "suppress_ids": [1]}))
    (tmp_path / "vocabulary.json").write_text(json.dumps(SPECIAL_TOKENS))
    script.add_languages(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"lang_ids": expected, "suppress_ids": [1]}


def test_a_tokenizer_without_special_tokens_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"lang_ids": []}')
    (tmp_path / "vocabulary.json").write_text('["a", "b"]')
    with pytest.raises(ValueError, match="is added_tokens.json missing"):
        script.add_languages(tmp_path)


@pytest.mark.filterwarnings("default")
def test_a_transformers_checkpoint_without_tokenizer_json_is_converted(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    models = tmp_path / "models"
    folder = _random_checkpoint(tmp_path / "random")
    arguments = [str(folder), "--quantization", "int8", "--models-dir", str(models)]
    assert script.main(arguments, verify=_accept) == 0
    directory = models / "random-int8"
    assert {path.name for path in directory.iterdir()} == {
        "config.json",
        "model.bin",
        "preprocessor_config.json",
        "tokenizer.json",
        "vocabulary.json",
    }
    tokens = json.loads((directory / "vocabulary.json").read_text())
    languages = json.loads((directory / "config.json").read_text())["lang_ids"]
    assert [tokens[number] for number in languages] == ["<|en|>", "<|de|>"]
    assert tokens[-TIMESTAMPS:][:2] == ["<|0.00|>", "<|0.02|>"]


def _random_checkpoint(folder: Path) -> Path:
    """A very small model with the files of old checkpoints: no tokenizer.json, no preprocessor_config.json."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    letters = sorted(ByteLevel.alphabet())
    special = {token: len(letters) + number for number, token in enumerate(SPECIAL_TOKENS)}
    end, start = special["<|endoftext|>"], special["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(letters) + len(special) + TIMESTAMPS,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "added_tokens.json").write_text(json.dumps(special))
    return folder
