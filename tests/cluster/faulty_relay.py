"""A relay to the embedded S3 that answers 503 for as long as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

BUFFER_BYTES = 2**18

#: What a store says that is overloaded (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
BODY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
ANSWER = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class FaultyRelay:
    """Relays connections from an address of this machine to a port on loopback, in a thread of its own.

    ``refused`` counts the requests that were answered with 503.
    """

    def __init__(self, address: str, target_port: int) -> None:
        self.address, self.target_port = address, target_port
        self.out = False
        self.refused = 0
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.address}:{self.port}"

    def __enter__(self) -> FaultyRelay:
        self._thread.start()
        assert self._ready.wait(30), "the relay did not come up"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        self._loop.close()

    def outage(self, seconds: float) -> None:
        """503 for some seconds: open connections are cut, new ones get the answer."""
        self.out = True
        self._loop.call_soon_threadsafe(self._cut)
        time.sleep(seconds)
        self.out = False

    def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connect, self.address, 0, limit=BUFFER_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._end.wait()
            self._cut()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other = None
        try:
            if self.out:
                await self._refuse(reader, writer)
                return
            target, other = await asyncio.open_connection("127.0.0.1", self.target_port, limit=BUFFER_BYTES)
            self._open |= {writer, other}
            await asyncio.gather(self._pump(reader, other), self._pump(target, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # One side has gone; closing both tells the other.
        finally:
            for side in (writer, other):
                if side is not None:
                    self._open.discard(side)
                    side.close()
                    with contextlib.suppress(OSError):
                        await side.wait_closed()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.refused += 1
        writer.write(ANSWER)
        await writer.drain()
        writer.write_eof()
        # What the client still sends is read: closing with bytes unread would take the answer away from it.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(-1), 1)

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(BUFFER_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
