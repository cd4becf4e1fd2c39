from __future__ import annotations

from dataclasses import replace

from jobs.storage.stored_jobs import segment

from whisper_server.inference.transcription.segments import TokenScore
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.storage.transcript_codec import pack, unpack


def test_transcripts_are_restored_exactly() -> None:
    scores = [TokenScore(b"\xff\x00", -0.1), TokenScore("ä".encode(), -1e-30)]
    scored = replace(segment(), scores=scores)
    transcript = Transcript([segment(), scored], "de", 12.3, 4)
    assert repr(unpack(pack(transcript))) == repr(transcript)
    assert unpack(pack(Transcript([], "en", 0.0))) == Transcript([], "en", 0.0)
