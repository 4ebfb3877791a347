"""Checks that this container serves: its server answers /ready, or its action's port is open.

It asks the ports and not the processes, because a server that hangs is still a process, and the
container's first process may be an init process (`docker run --init`).

    python3 healthcheck.py [SERVER_PORT ACTION_PORT]
"""

import http.client
import socket
import sys

SECONDS = 4


def serves(server_port: int, action_port: int) -> bool:
    try:
        asking = http.client.HTTPConnection("127.0.0.1", server_port, timeout=SECONDS)
        asking.request("GET", "/ready")
        return asking.getresponse().status == 200
    except ConnectionRefusedError:  # no server: Lambda's emulator, or an OpenWhisk action
        pass
    except (OSError, http.client.HTTPException):
        return False
    try:
        socket.create_connection(("127.0.0.1", action_port), SECONDS).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    ports = [int(port) for port in sys.argv[1:]] or [8000, 8080]
    sys.exit(0 if serves(*ports) else 1)
