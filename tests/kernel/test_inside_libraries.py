"""Common servers and clients in namespaces, each used as in its own documentation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_netns import Lab, Namespace
from pytest_netns.kernel.system import privileges

BLUE = "192.168.15.2"

Scope = dict[str, Any]
Client = Callable[[str], bytes]


@pytest.fixture
def red(netns_pair: Lab) -> Namespace:
    """The clients' namespace."""
    return netns_pair["red"]


@pytest.fixture
def blue(netns_pair: Lab) -> Namespace:
    """The servers' namespace."""
    return netns_pair["blue"]


# -- asyncio itself --------------------------------------------------------------------------------


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a line in upper case."""
    writer.write((await reader.readline()).upper())
    writer.close()
    await writer.wait_closed()


def test_a_server_in_blue_and_a_client_in_red_in_one_event_loop(red: Namespace, blue: Namespace) -> None:
    """The short way: sockets created in their namespaces, the rest is plain asyncio."""

    async def main() -> bytes:
        async with await asyncio.start_server(shout, sock=blue.create_server(("", 80))):
            reader, writer = await asyncio.open_connection(sock=red.create_connection(("blue", 80)))
            writer.write(b"hello\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return answer

    assert asyncio.run(main()) == b"HELLO\n"


def test_sock_connect_on_the_loop(red: Namespace, blue: Namespace) -> None:
    """A non-blocking socket of red's, connected by the loop, reaches the server and comes from red."""

    async def main() -> tuple[str, bytes]:
        loop = asyncio.get_running_loop()
        async with await asyncio.start_server(shout, sock=blue.create_server(("", 80))):
            with red.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, (BLUE, 80))
                await loop.sock_sendall(client, b"hello\n")
                return client.getsockname()[0], await loop.sock_recv(client, 100)

    assert asyncio.run(main()) == ("192.168.15.1", b"HELLO\n")


# -- HTTP: three servers, four clients ---------------------------------------------------------------


async def app(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """An ASGI application that returns the client's address."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = f"hello {scope['client'][0]}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def serve_uvicorn(stop: asyncio.Event) -> None:
    """uvicorn, run from code as in its documentation."""
    uvicorn = pytest.importorskip("uvicorn")
    server = uvicorn.Server(uvicorn.Config(app, host="0.0.0.0", port=80, log_config=None, ws="none"))
    with contextlib.suppress(AttributeError):
        server.capture_signals = contextlib.nullcontext  # the test keeps its own Ctrl-C handler
    serving = asyncio.create_task(server.serve())
    await stop.wait()
    server.should_exit = True
    await serving


async def serve_hypercorn(stop: asyncio.Event) -> None:
    """hypercorn, run from code as in its documentation."""
    config = pytest.importorskip("hypercorn.config").Config()
    config.bind = ["0.0.0.0:80"]
    config.errorlog = None
    await pytest.importorskip("hypercorn.asyncio").serve(app, config, shutdown_trigger=stop.wait)


async def serve_aiohttp(stop: asyncio.Event) -> None:
    """aiohttp's server."""
    web = pytest.importorskip("aiohttp.web")

    async def hello(request: Any) -> Any:
        return web.Response(text=f"hello {request.remote}")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 80).start()
    await stop.wait()
    await runner.cleanup()


@contextlib.contextmanager
def served(blue: Namespace, serve: Callable[[asyncio.Event], Awaitable[None]]) -> Iterator[None]:
    """A server in blue on a separate thread, for the duration of the block."""
    control: list[Any] = []

    async def main() -> None:
        stop = asyncio.Event()
        control.extend([asyncio.get_running_loop(), stop])
        await serve(stop)

    failures: list[BaseException] = []

    def call() -> None:
        try:
            blue.call(main)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        blue.wait_listening(80, timeout=15)
        yield
    finally:
        control[0].call_soon_threadsafe(control[1].set)
        thread.join()
        assert not failures


def get_requests(url: str) -> bytes:
    """requests."""
    return bytes(pytest.importorskip("requests").get(url, timeout=10).content)


def get_httpx(url: str) -> bytes:
    """httpx, without asyncio."""
    return bytes(pytest.importorskip("httpx").get(url, timeout=10).content)


def get_httpx_async(url: str) -> bytes:
    """httpx with asyncio, which resolves and connects in separate tasks."""

    async def get() -> bytes:
        async with pytest.importorskip("httpx").AsyncClient(timeout=10) as client:
            return bytes((await client.get(url)).content)

    return asyncio.run(get())


def get_aiohttp(url: str) -> bytes:
    """aiohttp's client."""

    async def get() -> bytes:
        async with pytest.importorskip("aiohttp").ClientSession() as session, session.get(url) as response:
            return bytes(await response.read())

    return asyncio.run(get())


@pytest.mark.parametrize("get", [get_requests, get_httpx, get_httpx_async, get_aiohttp])
@pytest.mark.parametrize("serve", [serve_uvicorn, serve_hypercorn, serve_aiohttp])
def test_http(red: Namespace, blue: Namespace, serve: Callable[[asyncio.Event], Awaitable[None]], get: Client) -> None:
    """The client resolves blue by name, in `with red:` and in a call, and the server sees red's address."""
    with served(blue, serve):
        with red:
            assert get("http://blue/") == b"hello 192.168.15.1"
        assert red.call(get, "http://blue/") == b"hello 192.168.15.1"


# -- databases ---------------------------------------------------------------------------------------


def test_redis(red: Namespace, blue: Namespace) -> None:
    """A real redis-server in blue, used from red by redis-py, synchronously and with asyncio."""
    redis = pytest.importorskip("redis")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    blue.start("redis-server --port 6379 --bind 0.0.0.0 --protected-mode no --save '' --appendonly no", ready=6379)
    with red, redis.Redis(host="blue") as client:
        client.set("colour", "red")
        assert client.get("colour") == b"red"

    async def get() -> Any:
        async with pytest.importorskip("redis.asyncio").Redis(host="blue") as client:
            return await client.get("colour")

    assert red.call(get) == b"red"


def _postgresql() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@pytest.fixture
def postgres(blue: Namespace, tmp_path: Path) -> Iterator[None]:
    """A real PostgreSQL in blue, not run as root, which it refuses."""
    programs = _postgresql()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    who: dict[str, Any] = {}
    as_user: list[str] = []
    directory = tmp_path / "data"
    directory.mkdir()
    if os.geteuid() == 0 and not privileges.has_other_users():  # there is no other user in there
        as_user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    elif os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(directory, account.pw_uid, account.pw_gid)
        for parent in (tmp_path, *tmp_path.parents):
            if parent.stat().st_mode & 0o077 == 0:
                parent.chmod(0o711)
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        directory,
        "-U",
        "app",
        "-A",
        "trust",
        "--no-sync",
        "--no-instructions",
    ]
    blue.run([*as_user, *initdb], **who)
    (directory / "pg_hba.conf").write_text("host all app 192.168.15.0/24 trust\n")
    options = ["-c", "listen_addresses=*", "-c", "fsync=off", "-c", "unix_socket_directories="]
    with blue.start([*as_user, programs / "postgres", "-D", directory, *options], ready=5432, timeout=20, **who):
        yield
    shutil.rmtree(directory)  # another user who runs pytest next may lack permission


def test_postgresql(red: Namespace, postgres: None) -> None:
    """psycopg in red reaches PostgreSQL in blue by name, synchronously and with asyncio, in a block and in a call."""
    psycopg = pytest.importorskip("psycopg")
    address = "host=blue user=app dbname=postgres connect_timeout=10"
    question = "select host(inet_client_addr())"

    def ask() -> Any:
        with psycopg.connect(address) as connection:
            return connection.execute(question).fetchone()

    async def ask_async() -> Any:
        async with await psycopg.AsyncConnection.connect(address) as connection:
            return await (await connection.execute(question)).fetchone()

    assert red.call(ask) == ("192.168.15.1",)
    assert red.call(ask_async) == ("192.168.15.1",)
    with red:
        assert ask() == ("192.168.15.1",)
        assert asyncio.run(ask_async()) == ("192.168.15.1",)
