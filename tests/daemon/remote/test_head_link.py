"""What comes of a question to the head: its answer, whenever that comes, or one line why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

pytest.importorskip("distributed", reason="needs the extra scale")

from daemon.remote.head_address import head_address
from daemon.remote.head_link import HeadLink, HeadLostError


@pytest.fixture
def link() -> Iterator[HeadLink]:
    with HeadLink(head_address("tcp://127.0.0.1:1", "", joining=True), "", lambda: None) as link:
        yield link


class _LateFuture(Future[Any]):
    """The answer of another future, which comes in the very moment in which the first wait for it ends."""

    def __init__(self, answer: Future[Any]) -> None:
        super().__init__()
        self._answer = answer

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            self.set_result(self._answer.result())
            raise TimeoutError
        return super().result(timeout)


async def _after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


def test_an_answer_that_comes_as_a_wait_ends_is_an_answer(
    link: HeadLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = asyncio.run_coroutine_threadsafe

    def late(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Future[Any]:
        return _LateFuture(ask(work, loop))

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "run_coroutine_threadsafe", late)
        told = link._call(_after(0), lambda: True, 10)

    assert told == "answer"


def test_no_answer_in_time_is_told_and_so_is_a_stop(link: HeadLink) -> None:
    with pytest.raises(HeadLostError, match="it does not answer"):
        link._call(_after(30), lambda: False, 0.3)
    with pytest.raises(HeadLostError, match="stopped"):
        link._call(_after(30), lambda: True, 30)


@pytest.mark.slow
def test_a_head_that_is_not_there_is_told(link: HeadLink) -> None:
    with pytest.raises(HeadLostError, match=r"127\.0\.0\.1:1"):
        link.ask("bt_greet", lambda: False)
