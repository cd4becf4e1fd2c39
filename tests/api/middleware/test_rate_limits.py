from __future__ import annotations

from collections.abc import Callable

import anyio
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from whisper_server.api.middleware.rate_limits import RateLimitMiddleware

KEYS = ("a-secret-of-the-tests", "another-secret-of-the-tests")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_each_key_has_its_own_rate_limit(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=KEYS, key_rate="2/hour")
    responses = [client.post("/reload", content=b"[]", headers=bearer(KEYS[0])) for _ in range(3)]
    assert [response.status_code for response in responses] == [400, 400, 429]
    assert [response.headers["x-ratelimit-remaining-requests"] for response in responses] == ["1", "0", "0"]
    assert {response.headers["x-ratelimit-limit-requests"] for response in responses} == {"2"}
    assert 0 < int(responses[-1].headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 3600
    assert 0 < int(responses[-1].headers["retry-after"]) <= 3600
    assert responses[-1].json() == {"error": "the limit of this key is 2/hour; try again later"}
    assert client.post("/reload", content=b"[]", headers=bearer(KEYS[1])).status_code == 400
    assert client.get("/health").status_code == 200


def test_errors_below_v1_have_openais_shape(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=KEYS, key_rate="1/day")
    assert client.get("/v1/nowhere", headers=bearer(KEYS[0])).status_code == 404
    error = client.get("/v1/nowhere", headers=bearer(KEYS[0])).json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")


def test_concurrent_requests_of_a_key_are_limited() -> None:
    """The third concurrent request of a key is refused; one of another key is not, nor a later one."""
    finish, statuses = anyio.Event(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await finish.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def never() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def run() -> None:
        middleware = RateLimitMiddleware(app, concurrency=2, rate="none")

        async def request(key: str) -> None:
            await middleware({"type": "http", "path": "/a", "state": {"key": key}}, never, send)

        async with anyio.create_task_group() as group:
            for key in ("a", "a", "b"):
                group.start_soon(request, key)
            await anyio.wait_all_tasks_blocked()
            await request("a")
            assert statuses == [429]
            finish.set()
        await request("a")

    anyio.run(run)
    assert statuses == [429, 200, 200, 200, 200]
