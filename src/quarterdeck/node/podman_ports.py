"""Getting back the host ports that podman's service holds after a failed start.

podman 4.3 listens on published ports for conmon, and when the start fails its service forgets the sockets
without closing them: no container can have those ports until its garbage is collected, which may take
minutes. Answering some large requests makes it collect at once (measured: one round, 120 ms).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Sequence

from quarterdeck.node.model import Port

_LARGE = ("/images/json", "/info", "/containers/json")
_ROUNDS = 12


async def let_go(ports: Sequence[Port], get: Callable[[str], Awaitable[object]]) -> bool:
    """Make the service collect its garbage until the ports are free; whether they are. `get` asks it for a path."""
    for _ in range(_ROUNDS):
        for path in _LARGE:
            await get(path)
        if not any(_taken(port) for port in ports):
            return True
    return False


def _taken(port: Port) -> bool:
    """Whether somebody has it; a port that we may not try is taken to be free."""
    family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            # What waits for the last packets of a closed connection does not matter to a listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host_ip, port.host))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
