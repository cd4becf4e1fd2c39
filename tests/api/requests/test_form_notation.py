from __future__ import annotations

import pytest

from whisper_server.api.requests.form_notation import FormFields
from whisper_server.core.errors import BadOption


@pytest.mark.parametrize(
    "pairs",
    [
        [("x[]", "a"), ("x[]", "b")],
        [("x", "a"), ("x", "b")],
        [("x[0]", "a"), ("x[1]", "b")],
        [("x", "a,b")],
        [("x[]", " a , b,")],
        [("x", '["a", "b"]')],
        [("x[]", "a"), ("x", "b")],
    ],
    ids=["brackets", "bare", "numbered", "commas", "spaces", "json", "mixed"],
)
def test_every_notation_of_a_list_is_parsed_alike(pairs: list[tuple[str, str]]) -> None:
    assert FormFields.collect(pairs).items("x") == ["a", "b"]


def test_members_in_brackets_become_an_object() -> None:
    fields = FormFields.collect([("x[type]", "server_vad"), ("x[threshold]", "0.5"), ("y", "1")])
    assert fields.value("x") == '{"type": "server_vad", "threshold": "0.5"}'
    assert (fields.value("y"), fields.value("z"), fields.items("z")) == ("1", "", [])


def test_the_last_of_repeated_values_counts() -> None:
    assert FormFields.collect([("x", "query"), ("x", "form")]).value("x") == "form"


@pytest.mark.parametrize("text", ["[", "[1]", '["a", null]', "[" * 60_000, '[["a"]]'])
def test_an_invalid_json_array_is_refused(text: str) -> None:
    with pytest.raises(BadOption, match="x: .* a JSON array of strings"):
        FormFields.collect([("x", text)]).items("x")


@pytest.mark.parametrize("name", ["x[", "x]", "[]", "x[][]", "x[a][b]", ""])
def test_other_brackets_belong_to_the_name(name: str) -> None:
    assert FormFields.collect([(name, "a")]).items("x") == []
