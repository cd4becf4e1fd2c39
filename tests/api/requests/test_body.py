from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient


@pytest.mark.parametrize("path", ["/recognise", "/v1/audio/transcriptions", "/v1/jobs"])
def test_an_upload_that_cannot_be_stored_is_a_507(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Up to one megabyte is kept in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    response = client.post(path, files={"file": ("a.wav", bytes(2_000_000))})
    assert response.status_code == 507
    assert "the server cannot store the upload: No such file or directory; try again later" in response.text
    assert int(response.headers["retry-after"]) > 0
    assert client.post(path, files={"file": ("a.wav", b"no sound")}).status_code in (202, 400)
