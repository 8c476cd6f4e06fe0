"""A keep-alive connection that costs the measuring process next to nothing."""

import asyncio
from dataclasses import dataclass


@dataclass
class Connection:
    """One connection, for one request after the other."""

    host: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        """Connect."""
        return cls(host, *await asyncio.open_connection(host, port, limit=2**20))

    async def get(self, path: str) -> bytes:
        """Return the body of a response with a known length; raises RuntimeError unless its status is 200."""
        length = await self.start(path)
        return await self.reader.readexactly(length)

    async def start(self, path: str, accept: str = "*/*") -> int:
        """Send a request, read the head of its response, and return the length of the body, 0 for a stream."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nAccept: {accept}\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        if " 200 " not in f"{status} ":
            raise RuntimeError(f"{path} answered {status}")
        named = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        return int(named.get("content-length", 0))

    def close(self) -> None:
        """Disconnect."""
        self.writer.close()
