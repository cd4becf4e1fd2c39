from __future__ import annotations

import anyio

from whisper_server.core.notifier import Notifier


def test_a_notification_wakes_only_tasks_that_wait_already() -> None:
    async def check() -> None:
        notifier = Notifier()
        before = notifier.next
        notifier.notify()
        await before.wait()
        assert not notifier.next.is_set()

    anyio.run(check)
