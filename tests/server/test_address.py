"""Addresses: what they look like, who may listen where, and what a dead process leaves behind."""

import asyncio
import shutil
import socket
import stat
from pathlib import Path

import pytest

from server.address import AddressError, TcpAddress, UnixAddress, connect, of_process, parse, remove, serve, serve_again


@pytest.mark.parametrize("text", ["unix:/run/t/w.sock", "tcp://127.0.0.1:7100", "tcp://[::1]:7100", "tcp://host:0"])
def test_an_address_reads_back_as_it_is_written(text: str) -> None:
    assert str(parse(text)) == text


def test_the_url_form_of_a_unix_address_is_understood() -> None:
    assert parse("unix:///run/t/w.sock") == UnixAddress(path="/run/t/w.sock")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "neither"),
        ("http://x:1", "neither"),
        ("unix:relative.sock", "absolute"),
        ("unix:/" + "x" * 107, "too long"),
        ("tcp://127.0.0.1", "host and a port"),
        ("tcp://:80", "host and a port"),
        ("tcp://h:65536", "host and a port"),
        ("tcp://h:-1", "host and a port"),
        ("tcp://h:１", "host and a port"),
    ],
)
def test_a_wrong_address_is_refused_with_the_right_form(text: str, says: str) -> None:
    with pytest.raises(AddressError, match=says):
        parse(text)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.received.done():
            self.received.set_result(data)


class EchoServer(Echo):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


async def _echoes(address: UnixAddress | TcpAddress) -> bool:
    client = await connect(address, Echo, timeout_s=30)
    client.transport.write(b"ping")
    answer = await asyncio.wait_for(client.received, 30)
    client.transport.close()
    return bool(answer == b"ping")


@pytest.mark.parametrize("name", ["", "../escape", "/etc/x", ".hidden", "a b", "n" * 65, "a\0b"])
def test_a_process_name_that_is_no_plain_file_name_is_refused(name: str) -> None:
    with pytest.raises(AddressError, match="letters, digits"):
        of_process(Path("/run/tombola"), name)


def test_a_process_listens_under_its_name_in_the_run_directory() -> None:
    assert str(of_process(Path("/run/tombola"), "gateway-0")) == "unix:/run/tombola/gateway-0.sock"


async def test_tcp_on_the_loopback_gets_the_port_it_is_told() -> None:
    server, address = await serve(parse("tcp://127.0.0.1:0"), EchoServer)
    assert isinstance(address, TcpAddress)
    assert address.port > 0
    assert await _echoes(address)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "[::]", "example.org"])
async def test_tcp_beyond_this_machine_is_refused(host: str) -> None:
    with pytest.raises(AddressError, match="not authenticated"):
        await serve(parse(f"tcp://{host}:7100"), EchoServer)


async def test_a_unix_socket_is_for_its_owner_only_and_replaces_what_a_dead_process_left(run_dir: Path) -> None:
    path = run_dir / "w.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    address = UnixAddress(path=str(path))
    server, _ = await serve(address, EchoServer)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await _echoes(address)
    with pytest.raises(OSError, match="another process listens"):
        await serve(address, EchoServer)
    assert await _echoes(address)
    server.close()
    await server.wait_closed()
    remove(address)
    remove(address)
    assert not path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(run_dir: Path) -> None:
    path = run_dir / "w.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        await serve(UnixAddress(path=str(path)), EchoServer)
    assert path.read_text() == "precious"


async def test_connecting_to_nobody_is_an_oserror(run_dir: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await connect(UnixAddress(path=str(run_dir / "none.sock")), Echo)


async def test_a_socket_whose_file_is_removed_is_listened_on_again(run_dir: Path) -> None:
    folder = run_dir / "sockets"
    folder.mkdir()
    where = UnixAddress(path=str(folder / "w.sock"))
    server, _ = await serve(where, EchoServer)
    assert await serve_again(server, where, EchoServer) is server
    shutil.rmtree(folder)
    server = await serve_again(server, where, EchoServer)
    assert await _echoes(where)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    server.close()
    await server.wait_closed()
    remove(where)
