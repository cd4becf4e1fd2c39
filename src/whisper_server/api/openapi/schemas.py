"""JSON schemas of what requests and responses contain."""

from __future__ import annotations

from collections.abc import Mapping

from whisper_server.api.requests.parsers import Schema
from whisper_server.engine.model_admin import WEIGHT_STATES
from whisper_server.engine.model_library import SOURCES
from whisper_server.jobs.job import STATES

JSON = "application/json"

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
NULLABLE: Schema = {"type": ["string", "null"]}
NULLABLE_NUMBER: Schema = {"type": ["number", "null"]}
NULLABLE_INTEGER: Schema = {"type": ["integer", "null"]}
NULLABLE_OBJECT: Schema = {"type": ["object", "null"]}


def object_of(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def array_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: dict[str, Schema] = {
    "Error": object_of({"error": TEXT}),
    "DetailError": object_of({"detail": TEXT}),
    "DeepgramError": object_of({"err_code": TEXT, "err_msg": TEXT, "request_id": TEXT}),
    "DeepgramWord": object_of(
        {"word": TEXT, "start": NUMBER, "end": NUMBER, "confidence": NUMBER, "language": TEXT, "punctuated_word": TEXT},
        optional=("language",),
    ),
    "DeepgramTranscription": object_of(
        {
            "metadata": object_of(
                {
                    "transaction_key": TEXT,
                    "request_id": TEXT,
                    "sha256": TEXT,
                    "created": TEXT,
                    "duration": NUMBER,
                    "channels": INTEGER,
                    "models": array_of(TEXT),
                    "model_info": OBJECT,
                    "warnings": array_of(object_of({"parameter": TEXT, "type": TEXT, "message": TEXT})),
                    "tags": array_of(TEXT),
                    "extra": OBJECT,
                },
                optional=("warnings", "tags", "extra"),
            ),
            "results": object_of(
                {
                    "channels": array_of(
                        object_of(
                            {
                                "alternatives": array_of(ref("DeepgramAlternative")),
                                "detected_language": TEXT,
                                "language_confidence": NUMBER,
                            },
                            optional=("detected_language", "language_confidence"),
                        )
                    ),
                    "utterances": array_of(ref("DeepgramUtterance")),
                },
                optional=("utterances",),
            ),
        }
    ),
    "DeepgramAlternative": object_of(
        {
            "transcript": TEXT,
            "confidence": NUMBER,
            "languages": array_of(TEXT),
            "words": array_of(ref("DeepgramWord")),
            "paragraphs": OBJECT,
        },
        optional=("languages", "paragraphs"),
    ),
    "DeepgramUtterance": object_of(
        {
            "start": NUMBER,
            "end": NUMBER,
            "confidence": NUMBER,
            "channel": INTEGER,
            "transcript": TEXT,
            "languages": array_of(TEXT),
            "words": array_of(ref("DeepgramWord")),
            "id": TEXT,
        },
        optional=("languages",),
    ),
    "OpenAIError": object_of(
        {"error": object_of({"message": TEXT, "type": TEXT, "param": NULLABLE, "code": NULLABLE})}
    ),
    "Model": object_of(
        {
            "id": TEXT,
            "object": {"const": "model"},
            "created": INTEGER,
            "owned_by": TEXT,
            "state": {"enum": list(WEIGHT_STATES)},
            "alias_of": TEXT,
            "memory": OBJECT,
        },
        optional=("alias_of", "memory"),
    ),
    "AvailableModel": object_of(
        {
            "id": TEXT,
            "object": {"const": "model"},
            "created": INTEGER,
            "owned_by": TEXT,
            "source": {"enum": list(SOURCES)},
            "bytes": INTEGER,
            "memory": {"type": "object", "additionalProperties": INTEGER},
            "loaded": BOOLEAN,
            "deletable": BOOLEAN,
        }
    ),
    "Usage": {"type": "object", "properties": {"type": TEXT, "seconds": NUMBER}, "required": ["type"]},
    "OpenAITranscription": object_of(
        {
            "text": TEXT,
            "task": TEXT,
            "language": TEXT,
            "duration": NUMBER,
            "segments": array_of(OBJECT),
            "words": array_of(OBJECT),
            "logprobs": array_of(OBJECT),
            "languages": array_of(OBJECT),
            "usage": ref("Usage"),
        },
        optional=("task", "language", "duration", "segments", "words", "logprobs", "languages", "usage"),
    ),
    "Alignment": object_of(
        {
            "task": {"const": "align"},
            "language": TEXT,
            "duration": NUMBER,
            "text": TEXT,
            "words": array_of(
                object_of({"word": TEXT, "start": NULLABLE_NUMBER, "end": NULLABLE_NUMBER, "probability": NUMBER})
            ),
            "segments": array_of(
                object_of(
                    {
                        "id": INTEGER,
                        "start": NULLABLE_NUMBER,
                        "end": NULLABLE_NUMBER,
                        "text": TEXT,
                        "probability": NUMBER,
                    }
                )
            ),
            "usage": ref("Usage"),
        }
    ),
    "SpeechActivity": object_of(
        {"duration": NUMBER, "segments": array_of(object_of({"start": NUMBER, "end": NUMBER}))}
    ),
    "Word": object_of({"word": TEXT, "start": NUMBER, "end": NUMBER, "probability": NUMBER}),
    "Segment": object_of(
        {
            "id": INTEGER,
            "seek": INTEGER,
            "start": NUMBER,
            "end": NUMBER,
            "text": TEXT,
            "tokens": array_of(INTEGER),
            "temperature": NUMBER,
            "avg_logprob": NULLABLE_NUMBER,
            "compression_ratio": NUMBER,
            "no_speech_prob": NULLABLE_NUMBER,
            "words": array_of(ref("Word")),
        },
        optional=("words",),
    ),
    "Transcription": object_of(
        {"text": TEXT, "segments": array_of(ref("Segment")), "language": TEXT}, optional=("segments",)
    ),
    "Job": object_of(
        {
            "id": TEXT,
            "object": {"const": "job"},
            "state": {"enum": list(STATES)},
            "created_at": NUMBER,
            "started_at": NULLABLE_NUMBER,
            "finished_at": NULLABLE_NUMBER,
            "expires_at": NULLABLE_NUMBER,
            "file": object_of({"name": TEXT, "bytes": NULLABLE_INTEGER, "url": NULLABLE, "kept": BOOLEAN}),
            "model": TEXT,
            "task": TEXT,
            "response_format": TEXT,
            "progress": {"type": "number", "minimum": 0, "maximum": 1},
            "audio_seconds": NULLABLE_NUMBER,
            "audio_seconds_done": NUMBER,
            "speed": NULLABLE_NUMBER,
            "estimated_finish_at": NULLABLE_NUMBER,
            "position": NULLABLE_INTEGER,
            "waiting_for_model": BOOLEAN,
            "waiting_for_storage": BOOLEAN,
            "restarts": INTEGER,
            "cached": BOOLEAN,
            "language": NULLABLE,
            "error": NULLABLE_OBJECT,
            "callback": NULLABLE_OBJECT,
            "text": TEXT,
        },
        optional=("text",),
    ),
    "Jobs": object_of(
        {
            "object": {"const": "list"},
            "data": array_of(ref("Job")),
            "first_id": NULLABLE,
            "last_id": NULLABLE,
            "has_more": BOOLEAN,
        },
        optional=("first_id", "last_id", "has_more"),
    ),
}
