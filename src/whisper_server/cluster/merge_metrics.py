"""The metrics of several replicas as those of one target: each sample says whose it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST


def together(texts: Mapping[str, str]) -> bytes:
    """Return one text of them all, with the label `replica`."""
    registry = CollectorRegistry()
    registry.register(_Collected(texts))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                new = Metric(family.name, family.documentation, family.type)
                kept = families.setdefault(family.name, new)
                kept.samples += [
                    sample._replace(labels={**sample.labels, "replica": replica}) for sample in family.samples
                ]
        yield from families.values()
