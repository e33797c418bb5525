"""A byte relay from an address of this machine to a port on loopback.

SeaweedFS binds S3 and its control port (gRPC, which accepts new keys) to one address. So the whole server
stays on loopback, and where other machines must reach S3, this relay exposes S3 only. Signatures stay valid because the
client's ``Host`` header passes unchanged.

Run as ``python -m visionloop.pipelines.services.relay ADDRESS PORT TARGET_PORT``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

BUFFER_BYTES = 2**18


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies everything from one side to the other, then signals the end."""
    while data := await reader.read(BUFFER_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def serve(address: str, port: int, target_port: int) -> None:
    """Relays every connection until cancelled."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_writer = None
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target_port, limit=BUFFER_BYTES)
            await asyncio.gather(_pump(reader, target_writer), _pump(target_reader, writer))
        except OSError:
            pass  # One side is gone; closing both ends the other.
        finally:
            for side in (writer, target_writer):
                if side is not None:
                    side.close()
                    with contextlib.suppress(OSError):
                        await side.wait_closed()

    server = await asyncio.start_server(connect, address, port, limit=BUFFER_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
