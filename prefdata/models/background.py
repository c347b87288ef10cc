"""An event loop in a thread of its own, for a client that many threads may ask at once."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

START_SECONDS = 10.0


class Background:
    """Started with its first use: `opening` then runs in it, and `closing` before it ends."""

    def __init__(
        self,
        name: str,
        opening: Callable[[], Coroutine[Any, Any, None]],
        closing: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._name = name
        self._opening, self._closing = opening, closing
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=loop.run_forever, name=self._name, daemon=True
                )
                self._thread.start()
                self._run(loop, self._opening())
            return self._loop

    def soon(self, *calls: Callable[[], object]) -> None:
        """Have these called in the loop, where it runs; it is not waited for and not started."""
        loop = self._loop
        if loop is None:
            return
        with suppress(RuntimeError):  # it was closed meanwhile
            for call in calls:
                loop.call_soon_threadsafe(call)

    def close(self) -> None:
        with self._starting:
            loop, self._loop = self._loop, None
        if loop:
            self._run(loop, self._shut(loop))
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop, doing: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(doing, loop).result(START_SECONDS)

    async def _shut(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up what is in flight, so that whoever waits for it in another thread is told."""
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._closing()
        await loop.shutdown_default_executor()
