"""A chat server and its clients, all in this process, with each socket in its own namespace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from pytest_netns import Lab, Namespace


@asynccontextmanager
async def server_in(namespace: Namespace) -> AsyncIterator[None]:
    """A server: all other clients receive what one sends."""
    writers = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        address, _ = writer.get_extra_info("peername")
        while line := await reader.readline():
            for other in writers - {writer}:
                other.write(f"{address}: ".encode() + line)

    server = await asyncio.start_server(talk, sock=namespace.create_server(("", 7777)))
    yield
    server.close()
    for writer in writers:
        writer.close()


@asynccontextmanager
async def client_in(namespace: Namespace) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client: the lines it receives, and the writer for those it sends."""
    reader, writer = await asyncio.open_connection(sock=namespace.create_connection(("host", 7777)))
    yield reader, writer
    writer.close()
    await writer.wait_closed()


async def receive(reader: asyncio.StreamReader, timeout: float = 5) -> str:
    return (await asyncio.wait_for(reader.readline(), timeout)).decode()


def test_chat_survives_a_link_failure(netns_lan: Lab) -> None:
    host, red, blue = netns_lan.host, netns_lan["red"], netns_lan["blue"]

    async def conversation() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(server_in(host))
            red_reader, red_writer = await stack.enter_async_context(client_in(red))
            blue_reader, blue_writer = await stack.enter_async_context(client_in(blue))

            blue_writer.write(b"hello\n")
            assert await receive(red_reader) == "192.168.15.2: hello\n"
            red_writer.write(b"good morning\n")
            assert await receive(blue_reader) == "192.168.15.1: good morning\n"

            red.interfaces["veth-red"].down()
            blue_writer.write(b"still there?\n")
            with pytest.raises(TimeoutError):
                await receive(red_reader, timeout=0.1)
            red.interfaces["veth-red"].up()
            assert await receive(red_reader) == "192.168.15.2: still there?\n"  # TCP has retransmitted

    asyncio.run(conversation())
