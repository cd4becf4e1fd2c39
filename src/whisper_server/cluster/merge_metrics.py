"""Merges the metrics of several replicas into one exposition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


def merge_metrics(expositions: Mapping[str, str]) -> bytes:
    """Return one exposition of those of all replicas, with the replica's id as the label `replica` of each sample."""
    registry = CollectorRegistry()
    registry.register(_MergingCollector(expositions))
    return generate_latest(registry)


@dataclass(eq=False)
class _MergingCollector(Collector):
    expositions: Mapping[str, str]

    def collect(self) -> Iterator[Metric]:
        merged: dict[str, Metric] = {}
        for replica, text in self.expositions.items():
            for family in text_string_to_metric_families(text):
                metric = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                metric.samples += [
                    sample._replace(labels={**sample.labels, "replica": replica}) for sample in family.samples
                ]
        yield from merged.values()
