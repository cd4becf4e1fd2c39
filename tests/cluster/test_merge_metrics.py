from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from whisper_server.api.metrics import Metrics
from whisper_server.cluster.merge_metrics import merge_metrics


def exposition(audio_seconds: float) -> str:
    metrics = Metrics()
    metrics.transcribed(audio_seconds, 1.0)
    return metrics.text().decode()


def test_each_sample_has_the_label_of_its_replica() -> None:
    text = merge_metrics({"a": exposition(3.0), "b": exposition(4.0)}).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    audio = [s for s in families["whisper_audio_seconds"].samples if s.name == "whisper_audio_seconds_total"]
    assert {sample.labels["replica"]: sample.value for sample in audio} == {"a": 3.0, "b": 4.0}
    assert families["whisper_audio_seconds"].type == "counter"
    assert families["whisper_real_time_factor"].type == "histogram"
    assert text.count("# TYPE whisper_audio_seconds_total ") == 1


def test_all_samples_are_kept() -> None:
    one = list(text_string_to_metric_families(exposition(3.0)))
    merged = list(text_string_to_metric_families(merge_metrics({"a": exposition(3.0)}).decode()))
    assert sorted(s.name for family in merged for s in family.samples) == sorted(s.name for f in one for s in f.samples)
