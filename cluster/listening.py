"""Addresses of this machine that a server of ours listens on."""

from __future__ import annotations

import errno
import ipaddress
import socket

from cluster.errors import ClusterError

PORTS_TRIED = 100


def address_of(host: str) -> str | None:
    """A host given as an address or as `localhost`; None for any other name."""
    try:
        return str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        return None


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    return ipaddress.ip_address(address).is_loopback


def is_everywhere(address: str) -> bool:
    """Whether an address stands for all addresses of this machine."""
    return ipaddress.ip_address(address).is_unspecified


def in_address(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def free_port(address: str, wanted: int | None, first: int) -> int:
    """`wanted` if nothing listens there, else ClusterError; without `wanted`, the next free port from `first` on."""
    for port in [wanted] if wanted is not None else range(first, first + PORTS_TRIED):
        if not 0 < port < 65536:
            raise ClusterError(f"--port must be between 1 and 65535, not {port}")
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as test:
            test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                test.bind((address, port))
            except PermissionError:
                raise ClusterError(f"--port {port} is reserved for the administrator; take one from 1024 on") from None
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise ClusterError(f"--host {address} is no address of this machine") from None
                continue
            return port
    if wanted is not None:
        raise ClusterError(f"port {wanted} is in use; name another one with --port")
    raise ClusterError(f"the ports from {first} to {first + PORTS_TRIED - 1} are all in use; name one with --port")
