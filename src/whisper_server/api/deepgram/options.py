"""Deepgram's parameters that files and live sessions share, and those that have no effect here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from starlette.datastructures import QueryParams

from whisper_server.api.requests.options import Field
from whisper_server.api.requests.parsers import LANGUAGE_OR_AUTO, text_up_to
from whisper_server.api.requests.text import check_pairs
from whisper_server.core.errors import BadOption

Warnings: TypeAlias = list[dict[str, str]]

MODEL = Field("model", text_up_to(300), "a model of this server; Deepgram's names (nova-3, …) select the served model")
LANGUAGE = Field("language", LANGUAGE_OR_AUTO, "the language spoken; detected if absent")
KEYTERMS = (
    Field("keyterm", text_up_to(2_000), "a word or name to expect; may be repeated"),
    Field("keywords", text_up_to(2_000), "the same; a weight after a colon is ignored"),
)
_ALL_KEYTERMS = Field("keyterm", text_up_to(2_000), "")

_DEEPGRAM_MODELS = re.compile(
    r"(nova|enhanced|base|flux|whisper)(-.*)?"
    r"|(general|phonecall|meeting|voicemail|finance|conversationalai|video|medical|drivethru|automotive|atc)",
    re.IGNORECASE,
)
_OFF = ("", "false", "0", "no", "off")

# A transcript without these is still correct, so the client is warned. The texts follow "is ignored: ".
UNSUPPORTED = {
    "detect_entities": "entities are not detected",
    "diarize": "speakers are not identified",
    "diarize_model": "speakers are not identified",
    "diarize_version": "speakers are not identified",
    "dictation": "spoken commands are transcribed as words",
    "intents": "intents are not recognised",
    "custom_intent": "intents are not recognised",
    "measurements": "units are written as the model writes them",
    "profanity_filter": "profanity is not removed",
    "replace": "words are not replaced",
    "search": "the audio is not searched",
    "sentiment": "sentiment is not analysed",
    "summarize": "nothing is summarised",
    "topics": "topics are not detected",
    "detect_topics": "topics are not detected",
    "custom_topic": "topics are not detected",
}
# The client relies on it: a transcript with the numbers that it wants to be without must not reach it.
_REFUSED = {"redact": "no value: this server does not redact transcripts"}


def own_model(name: str) -> str:
    """Return the name of a model of this server; it is empty, which means the served model, for Deepgram's names."""
    return "" if _DEEPGRAM_MODELS.fullmatch(name) else name


def check_query(query: QueryParams, refused: Mapping[str, str]) -> None:
    """Raises BadOption for invalid text and for what must not be ignored; `refused` says what is allowed instead."""
    check_pairs(query.multi_items())
    for name, allowed in {**_REFUSED, **refused}.items():
        if is_on(query, name):
            raise BadOption(name, query[name], allowed)


def warnings(query: QueryParams, unsupported: Mapping[str, str]) -> Warnings:
    """Return a warning for each parameter that is set and has no effect, as Deepgram words them."""
    return [
        # One of the types that Deepgram's clients know.
        {"parameter": name, "type": "unsupported_model", "message": f"{name} is ignored: {effect}"}
        for name, effect in unsupported.items()
        if is_on(query, name)
    ]


def is_on(query: QueryParams, name: str) -> bool:
    return any(text.strip().lower() not in _OFF for text in query.getlist(name))


def keyterms(query: QueryParams) -> str:
    """Return the terms as one text, without the weights that `keywords` may have; raises BadOption."""
    terms = [term.partition(":")[0].strip() for field in KEYTERMS for term in query.getlist(field.name)]
    return str(_ALL_KEYTERMS.parse(", ".join(filter(None, terms))))


def is_multilingual(texts: Mapping[str, Any]) -> bool:
    """Whether the client asks for Deepgram's multilingual results."""
    return str(texts.get("language", "")).strip().lower() == "multi"
