"""Which network interface the ranks of a group talk over: the one that Ray knows their node by."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

# Linux: the address of an interface by its name, of at most 15 bytes; the address lies in bytes 20 to 24.
_ADDRESS_OF_INTERFACE = 0x8915
_LONGEST_NAME = 15

_GLOO = "GLOO_SOCKET_IFNAME"


def torch_config() -> Any:
    """Train's setting of torch's process group, in which gloo is bound to the interface of the node's Ray address.

    By itself gloo takes the address that the host's name stands for. Where that is a loopback address, as in Debian's
    /etc/hosts, ranks on other nodes cannot reach it, and the group fails after a minute of tries.
    """
    from ray.train.torch import TorchConfig

    class Backend(TorchConfig().backend_cls):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(name_interface)
            super().on_start(worker_group, backend_config)

    @dataclass
    class Config(TorchConfig):  # type: ignore[misc]
        @property
        def backend_cls(self) -> type[Any]:
            return Backend

    return Config()


def name_interface() -> None:
    """Tell gloo the interface of this node's Ray address; what the user has set stands."""
    import ray

    if _GLOO not in os.environ and (name := interface_of(ray.util.get_node_ip_address())):
        os.environ[_GLOO] = name


def interface_of(address: str) -> str | None:
    """The name of this machine's interface with an IPv4 address; None where there is none, or it is not Linux's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            question = struct.pack("256s", os.fsencode(name)[:_LONGEST_NAME])
            try:
                answer = fcntl.ioctl(asked.fileno(), _ADDRESS_OF_INTERFACE, question)
            except OSError:  # it has none
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
