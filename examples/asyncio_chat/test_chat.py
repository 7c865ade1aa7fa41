"""A chat server and its clients, all in this process: each socket lives in a namespace of its own."""

import asyncio
from contextlib import asynccontextmanager

import pytest

SERVER = ("192.168.15.5", 7777)


@asynccontextmanager
async def server_in(namespace):
    """A server: what one client says, all others hear."""
    writers = set()

    async def talk(reader, writer):
        writers.add(writer)
        address, _ = writer.get_extra_info("peername")
        while line := await reader.readline():
            for other in writers - {writer}:
                other.write(f"{address}: ".encode() + line)

    sock = namespace.socket()
    sock.bind(SERVER)
    server = await asyncio.start_server(talk, sock=sock)
    yield
    server.close()
    for writer in writers:
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def client_in(namespace):
    """A client: what it hears, what it says."""
    sock = namespace.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, SERVER)
    reader, writer = await asyncio.open_connection(sock=sock)
    yield reader, writer
    writer.close()
    await writer.wait_closed()


async def hear(reader, timeout=5):
    return (await asyncio.wait_for(reader.readline(), timeout)).decode()


def chat(lab, conversation):
    async def everybody():
        red, blue = lab["red"], lab["blue"]
        async with (
            server_in(lab.host),
            client_in(red) as (red_hears, red_says),
            client_in(blue) as (blue_hears, blue_says),
        ):
            await conversation(red_hears, red_says, blue_hears, blue_says)

    asyncio.run(everybody())


def test_everyone_hears_the_others(netns_lan):
    async def conversation(red_hears, red_says, blue_hears, blue_says):
        blue_says.write(b"hello\n")
        assert await hear(red_hears) == "192.168.15.2: hello\n"
        red_says.write(b"good morning\n")
        assert await hear(blue_hears) == "192.168.15.1: good morning\n"

    chat(netns_lan, conversation)


def test_a_client_whose_cable_is_cut_hears_it_later(netns_lan):
    cable = netns_lan["red"].interfaces["veth-red"]

    async def conversation(red_hears, red_says, blue_hears, blue_says):
        blue_says.write(b"one\n")
        assert await hear(red_hears) == "192.168.15.2: one\n"
        cable.down()
        blue_says.write(b"two\n")
        with pytest.raises(TimeoutError):
            await hear(red_hears, timeout=0.1)
        cable.up()
        assert await hear(red_hears) == "192.168.15.2: two\n"  # TCP has tried again

    chat(netns_lan, conversation)
