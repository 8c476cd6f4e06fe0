"""The sockets that a server listens on."""

import socket

from models.processes.sockets import open_sockets


def test_connections_send_small_responses_at_once() -> None:
    (listener,) = open_sockets("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
