from __future__ import annotations

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.audio_files import audio_seconds
from benchmarks.transcription.libraries import literal
from benchmarks.transcription.plot_throughput import draw
from benchmarks.transcription.systems import _BATCH_SIZE, _mean_batch_size, start_system
from benchmarks.transcription.throughput import describe, find_clips, summarise, table, take_clips
from benchmarks.transcription.workload import ClipResult, RunResult, SharedOptions, key_values, transcribe_clips


def run(system: str, clients: int, turn: int, throughput: float, **other: Any) -> dict[str, Any]:
    measured = {"p50": 1.0, "p95": 2.0, "p99": 3.0, "wer": None, "loops": 0, "batch_size": None, "failures": 0}
    return {"system": system, "clients": clients, "round": turn, "throughput": throughput, **measured, **other}


RUNS = [
    *(run("server", 1, turn, speed) for turn, speed in enumerate([10, 20, 12])),
    *(run("peer", 1, turn, speed, wer=4.5) for turn, speed in enumerate([5, 15, 3])),
]


def test_clients_work_at_the_same_time_and_results_are_in_the_order_of_the_clips(tmp_path: Path) -> None:
    clips = [tmp_path / name for name in "abcd"]
    for clip in clips:
        clip.write_text(clip.name.upper())
    barrier = Barrier(2, timeout=10)

    def transcribe(content: bytes) -> str:
        barrier.wait()
        return content.decode()

    results = transcribe_clips(transcribe, clips, 2).clips
    assert [(result.file, result.text) for result in results] == [("a", "A"), ("b", "B"), ("c", "C"), ("d", "D")]


def test_a_failed_clip_does_not_count_towards_the_throughput(tmp_path: Path) -> None:
    clip = tmp_path / "a.flac"
    clip.write_bytes(b"")

    def fail(content: bytes) -> str:
        raise RuntimeError("503 busy")

    (failed,) = transcribe_clips(fail, [clip], 1).clips
    result = RunResult(2.0, [failed, ClipResult("b.flac", 1.0, "two")])
    figures = describe(result, {"a.flac": 5.0, "b.flac": 6.0}, {"b": "2"})
    assert (figures["throughput"], figures["failures"], figures["failure"]) == (3, 1, "RuntimeError: 503 busy")
    assert (figures["p50"], figures["wer"]) == (1, 0)
    assert describe(RunResult(1.0, [failed]), {"a.flac": 5.0}, {})["p50"] is None


def test_clips_repeat_until_there_is_enough_audio(audio: Path) -> None:
    clips = [audio / "short.flac", audio / "german.flac"]
    lengths = [audio_seconds(clip) for clip in clips]
    assert lengths[0] == pytest.approx(3, abs=0.5)
    assert take_clips(clips, sum(lengths) + 0.1, 0) == [*clips, clips[0]]
    assert take_clips(clips, 0, 4) == clips * 2


def test_an_english_model_gets_english_clips_only(tmp_path: Path) -> None:
    for name in ("joe_en_1.0-0.5_0000.flac", "espeak_de_de-140_0000.flac", "mine.wav", "texts.json"):
        (tmp_path / name).touch()
    voices = {model: {clip.name[:3] for clip in find_clips(tmp_path, "*", model, 1)} for model in ("tiny.en", "base")}
    assert voices == {"tiny.en": {"joe", "min"}, "base": {"joe", "esp", "min"}}


def test_ratios_are_medians_of_ratios_within_rounds() -> None:
    server, peer = summarise(RUNS)
    assert (server["throughput"], server["ratio"], server["throughput_range"]) == (12, 1, [10, 20])
    assert (peer["throughput"], peer["ratio"], peer["wer"]) == (5, 0.5, 4.5)


def test_a_table_has_no_empty_columns() -> None:
    lines = table(summarise(RUNS)).splitlines()
    assert lines[0] == "| clients | system | audio s/s | ratio | p50 s | p95 s | p99 s | WER % | loops |"
    assert lines[3] == "| 1 | peer | 5.00 | 0.50 | 1.00 | 2.00 | 3.00 | 4.50 | 0 |"


def test_the_mean_batch_size_is_of_the_run_if_the_server_counts_batches() -> None:
    assert _mean_batch_size({"sum": 10, "count": 10}, {"sum": 40, "count": 20, "mean": 2}) == 3
    assert _mean_batch_size({"mean": 1}, {"mean": 2.5}) == 2.5
    assert _mean_batch_size({}, {}) is None
    text = '# TYPE whisper_batch_size_mean gauge\nwhisper_batch_size_mean{worker="0"} 2.5\nwhisper_batch_size_count 4\n'
    assert _BATCH_SIZE.findall(text) == [("mean", "2.5"), ("count", "4")]


def test_options_are_parsed() -> None:
    assert key_values("beam_size=5 prompt='two words'") == {"beam_size": "5", "prompt": "two words"}
    assert [literal(text) for text in ("0", "0,0.2", "false", "none", "en")] == [0, (0, 0.2), False, None, "en"]


def test_an_unknown_kind_of_system_is_refused() -> None:
    with pytest.raises(ValueError, match="no kind of system 'whisperx'"):
        start_system("peer|whisperx|", SharedOptions("tiny.en", 1))


def test_an_openai_server_gets_file_model_and_fields(tmp_path: Path) -> None:
    requests = []

    class FakeServer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "14")
            self.end_headers()
            self.wfile.write(b'{"text": "hi"}')

        def log_message(self, *_: object) -> None:
            pass

    clip = tmp_path / "a.flac"
    clip.write_bytes(b"audio")
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        system = start_system(
            f"it|openai-url|http://127.0.0.1:{server.server_port}/v1|model=small", SharedOptions("tiny.en", 3)
        )
        result = system.run([clip], 1)
        system.close()
        server.shutdown()
    assert [clip.text for clip in result.clips] == ["hi"]
    ((path, body),) = requests
    assert path == "/v1/audio/transcriptions"
    assert all(part in body for part in (b"audio", b'name="model"\r\n\r\nsmall', b'name="beam_size"\r\n\r\n3'))


def test_a_plot_shows_every_system() -> None:
    drawing = ElementTree.fromstring(draw({"model": "tiny.en <int8>", "medians": summarise(RUNS)}))
    texts = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    assert {"server", "peer", "1"} <= {*texts}
    assert sum(element.tag.endswith("polyline") for element in drawing.iter()) == 2


@pytest.mark.measure
def test_a_server_and_a_library_transcribe_the_same_clips(audio: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.transcription.throughput", str(audio), "--only", "short.flac"]
    command += ["--model", "tiny.en", "--beam", "1"]
    command += ["--clients", "2", "--clips", "2", "--rounds", "1", "--json", str(report)]
    command += ["--system", "server|server||temperature=0", "--system", "peer|faster-whisper|workers=1 threads=2"]
    root = Path(__file__).parents[2]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout.count("\n") == 4
    runs = json.loads(report.read_text())["runs"]
    assert [(run["system"], run["failures"], run["wer"]) for run in runs] == [("server", 0, 0), ("peer", 0, 0)]
    assert runs[0]["audio_seconds"] == runs[1]["audio_seconds"] > 5
