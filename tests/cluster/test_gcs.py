"""The head of a cluster is asked for no longer than the asker wants to wait."""

from __future__ import annotations

import socket
import subprocess
import sys

ASK = """
import os, time
from cluster.gcs import asked
began = time.monotonic()
answer = asked("{address}", lambda client: client.get_all_node_info(), 1)
print(answer, time.monotonic() - began < 20, flush=True)
os._exit(0)  # Ray goes on trying in its thread
"""


def test_a_program_that_is_no_ray_is_left_after_the_given_time() -> None:
    """Ray itself would try for 40 seconds."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code = ASK.format(address=f"127.0.0.1:{other.getsockname()[1]}")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["None", "True"], done.stderr


def test_where_nothing_listens_nothing_is_asked() -> None:
    from cluster.gcs import asked

    def never(client: object) -> None:
        raise AssertionError

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert asked(f"127.0.0.1:{nobody.getsockname()[1]}", never, 1) is None
