"""The body of a request is received in threads, in pieces that are worth the way there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from threading import Lock

from models.errors import UnsupportedEncoding, WaitTimeout
from producer.uploads.multipart import BodyReceiver, MultipartReceiver, Upload

CHUNK_BYTES = 256 * 2**10  # handed to a thread at once, because each time costs some tens of microseconds
MAX_SILENCE_SECONDS = 60.0  # a client that sends nothing for so long is gone
Receiver = MultipartReceiver | BodyReceiver


class _ReceiverInThreads:
    """A receiver whose calls come from threads, one after the other, and have no effect after `close`.

    A request that is cancelled does not stop the thread that writes for it.
    """

    def __init__(self, open_receiver: Callable[[], Receiver]) -> None:
        self._open_receiver = open_receiver
        self._receiver: Receiver | None = None
        self._is_closed = False
        self._lock = Lock()

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        with self._lock:
            if not self._is_closed:
                self._opened().feed(data)

    def finish(self) -> Upload:
        """Make the file durable."""
        with self._lock:
            return self._opened().finish()

    def close(self) -> None:
        """Discard a file that was not finished."""
        with self._lock:
            self._is_closed = True
            if self._receiver is not None:
                self._receiver.__exit__()

    def _opened(self) -> Receiver:
        if self._receiver is None:
            self._receiver = self._open_receiver()
        return self._receiver


def check_encoding(content_encoding: str | None) -> None:
    """Raise UnsupportedEncoding if the header of a request names an encoding."""
    if (content_encoding or "identity").strip().lower() != "identity":
        raise UnsupportedEncoding(
            "a body with Content-Encoding is not taken; compress the file itself, or send it plain"
        )


async def receive(
    open_receiver: Callable[[], Receiver],
    body: AsyncIterator[bytes],
    content_encoding: str | None = None,
    max_silence_seconds: float = MAX_SILENCE_SECONDS,
) -> Upload:
    """Take the body of a request into the store; whatever goes wrong, nothing stays behind.

    open_receiver: called in a thread with the first bytes, like all that touches the store
    body: raises whatever it likes if the client disconnects
    content_encoding: the header of the request

    Raises InvalidUpload, SourceTooLarge, UnsupportedEncoding, FileStoreUnavailable, and WaitTimeout if the client is
    silent for too long.
    """
    check_encoding(content_encoding)
    receiver = _ReceiverInThreads(open_receiver)
    try:
        async for chunk in _join_chunks(body, max_silence_seconds):
            await asyncio.to_thread(receiver.feed, chunk)
        return await asyncio.to_thread(receiver.finish)
    finally:
        await asyncio.shield(asyncio.to_thread(receiver.close))


async def _join_chunks(body: AsyncIterator[bytes], max_silence_seconds: float) -> AsyncIterator[bytes]:
    """The body in pieces of about CHUNK_BYTES."""
    pending = bytearray()
    source = aiter(body)
    while True:
        try:
            async with asyncio.timeout(max_silence_seconds):
                data = await anext(source)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise WaitTimeout(f"nothing came for {max_silence_seconds:g} s; send the file again") from None
        pending += data
        if len(pending) >= CHUNK_BYTES:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)
