"""Jobs on a cluster elsewhere: which address, what is sent, what is said when something is wrong."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.job_upload import look_at
from cluster.jobs import ENVIRONMENT, Job, Jobs, connect_jobs, is_open_to_listeners, jobs_address
from tests.cluster.fake_jobs import FakeClient, details

ONE, OTHER = "depth-METR-LA-20260131-173000", "fusion-PEMS08-20260131-180000"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this shell's cluster nor its token."""
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.mark.parametrize(
    ("given", "environment", "address"),
    [
        (None, None, "http://127.0.0.1:8265"),
        (None, "https://ray.lab/gateway", "https://ray.lab/gateway"),
        ("head:8265", "https://ray.lab", "http://head:8265"),
        ("http://head:8265/", None, "http://head:8265"),
        ("http://[::1]:8265", None, "http://[::1]:8265"),
    ],
)
def test_addresses(given, environment, address, monkeypatch):
    if environment:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", environment)
    assert jobs_address(given) == address


@pytest.mark.parametrize(
    "given", ["auto", "ray://head:10001", "http://", "http://head:99999", "http://he\nad", "ftp://h"]
)
def test_what_is_no_address_of_jobs_is_refused(given):
    with pytest.raises(ClusterError, match=r"is no address of a cluster's jobs; .*8265") as refused:
        jobs_address(given)
    assert "\n" not in str(refused.value)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ClusterError, match="an address holds no password") as refused:
        jobs_address("https://me:planted-secret@head")
    assert "planted-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "mode", "is_open"),
    [
        ("http://head:8265", "token", True),
        ("http://10.0.0.7:8265", "token", True),
        ("http://head:8265", "disabled", False),  # there is no token that could be read
        ("https://head", "token", False),
        ("http://localhost:8265", "token", False),
        ("http://127.0.0.2:8265", "token", False),
        ("http://[::1]:8265", "token", False),
    ],
)
def test_a_token_over_an_open_network_is_noticed(address, mode, is_open, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    assert is_open_to_listeners(address) == is_open


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, 0, "SUCCEEDED"),
        ({"status": "FAILED", "driver_exit_code": 3}, 3, "FAILED with exit code 3"),
        ({"status": "FAILED", "driver_exit_code": -9}, 137, "FAILED with exit code 137"),
        ({"status": "STOPPED"}, 130, "STOPPED"),
        ({"status": "FAILED", "message": "set-up\nno such package."}, 1, "before its command ran: no such package."),
    ],
)
def test_a_job_has_the_exit_code_of_its_command(given, code, said):
    job = Jobs(FakeClient(details(ONE, **given)), "http://head").job(ONE)
    assert (job.is_over, job.code) == (True, code)
    assert said in str(job)


def test_what_is_known_of_a_job_leaves_its_environment_out():
    told = details(ONE, entrypoint="run --password planted-secret", message="no db://me:planted-secret@h")
    [job] = Jobs(FakeClient(told), "http://head").all()
    assert job.started == 1_769_880_600 and not job.is_over
    assert "planted-secret" not in repr(job)


@pytest.mark.parametrize("name", [ONE, "depth", "depth-METR"])
def test_a_job_goes_by_its_id_or_the_beginning_of_it(name):
    jobs = Jobs(FakeClient(details(ONE), details(OTHER), details(f"{ONE}-2") if name == ONE else details(OTHER)), "a")
    assert jobs.find(name).id == ONE


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("depht-METR-LA", [ONE, OTHER], f"unknown job 'depht-METR-LA' at http://head; did you mean '{ONE}'?"),
        ("depth", [], "it has none"),
        ("depth", [ONE, f"{ONE}-2"], f"stands for 2 at http://head, the newest: {ONE}-2, {ONE}"),
    ],
)
def test_an_unknown_job_names_the_nearest(name, known, said):
    with pytest.raises(ClusterError) as refused:
        Jobs(FakeClient(*map(details, known)), "http://head").find(name)
    assert said in str(refused.value)


def test_a_submission_sends_the_project_and_the_settings(tmp_path):
    (tmp_path / "depth.yaml").write_text("name: depth\n")
    client = FakeClient()
    Jobs(client, "http://head").submit(ONE, "exec python", {"OWN": "1"}, look_at(tmp_path), {"matrix": "depth"})
    [sent] = client.submitted
    assert sent["runtime_env"]["working_dir"] == str(tmp_path) and ".?*" in sent["runtime_env"]["excludes"]
    assert sent["runtime_env"]["env_vars"] == {**ENVIRONMENT, "OWN": "1"}
    Jobs(client, "http://head").submit(OTHER, "exec python", {}, None, {})
    assert client.submitted[1]["runtime_env"] == {"env_vars": ENVIRONMENT}


def test_stopping_waits_until_the_job_has_left():
    client = FakeClient(details(ONE), ends=details(ONE, "STOPPED"))
    assert Jobs(client, "http://head").stop(ONE).status == "STOPPED"
    assert client.asked_to_stop == 2, "asked again, since at first nobody was there to be asked"
    assert Jobs(FakeClient(details(ONE)), "http://head").stop(ONE, seconds=0.1).status == "RUNNING"


class Server(ThreadingHTTPServer):
    """Answers every question of Ray's client the same way, but for paths that begin as one of `answer`.

    `reads_after` is how late it reads what it is sent, `taken` the bytes by those beginnings.
    """

    daemon_threads = True

    def __init__(self, status: int, body: str, silent: bool = False) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.answer: dict[str, tuple[int, bytes]] = {}
        self.reads_after = 0.0
        self.taken: dict[str, int] = {}

        class Answer(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                self.asked.append((handler.path, handler.headers.get("authorization")))
                if silent:
                    self.over.wait(30)
                    return
                beginning = next((one for one in self.answer if handler.path.startswith(one)), None)
                code, content = (status, body.encode()) if beginning is None else self.answer[beginning]
                if handler.command != "GET":
                    if handler.command == "PUT":
                        self.over.wait(self.reads_after)
                        code = 200
                    length = int(handler.headers["Content-Length"])
                    self.taken[str(beginning)] = len(handler.rfile.read(length))
                handler.send_response(code)
                handler.end_headers()
                handler.wfile.write(content)

            do_PUT = do_POST = do_GET  # noqa: N815

            def log_message(self, *said: object) -> None:
                pass

        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Answer)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *failure: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


VERSION = json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": "c"})


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An access token in its file."""
    file = tmp_path / "token"
    file.write_text("planted-token-0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_MODE")
    yield file.read_text()


def test_an_address_given_wins_over_that_of_the_shell_and_the_token_goes_along(token, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    from ray._raylet import AuthenticationTokenLoader

    with Server(200, VERSION) as server:
        AuthenticationTokenLoader.instance().reset_cache()
        jobs = connect_jobs(f"127.0.0.1:{server.port}")
    assert jobs.address == f"http://127.0.0.1:{server.port}"
    assert server.asked[0] == ("/api/version", f"Bearer {token}")
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:1", "left as it was"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, "Unauthorized", "wants an access token, and none is known here"),
        (403, "Forbidden", "refuses the access token"),
        (404, "", "Ray at http://127.0.0.1:{port} says: "),
        (500, "", "no Ray Jobs answer at http://127.0.0.1:{port}"),
        (200, "<html>a printer</html>", "no Ray Jobs answer at http://127.0.0.1:{port}"),
    ],
)
def test_what_a_server_refuses_is_said_in_one_sentence(status, body, said):
    with Server(status, body) as server, pytest.raises(ClusterError) as refused:
        connect_jobs(f"http://127.0.0.1:{server.port}")
    assert said.format(port=server.port) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nothing_is_waited_for_without_end(monkeypatch):
    monkeypatch.setattr("cluster.jobs._READ_SECONDS", 0.3)
    with (
        Server(200, "", silent=True) as server,
        pytest.raises(ClusterError, match="takes connections and does not answ"),
    ):
        connect_jobs(f"http://127.0.0.1:{server.port}")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(ClusterError, match="nothing answers at"):
            connect_jobs(f"http://127.0.0.1:{nobody.getsockname()[1]}")


def test_files_may_take_long_on_their_way(tmp_path, monkeypatch):
    """Longer than a connection or an answer may take."""
    for name in ("_CONNECT_SECONDS", "_READ_SECONDS"):
        monkeypatch.setattr(f"cluster.jobs.{name}", 0.5)
    (tmp_path / "large.bin").write_bytes(bytes(30_000_000))  # more than the system keeps for a reader that is late
    with Server(200, VERSION) as server:
        job = json.dumps({"job_id": ONE, "submission_id": ONE}).encode()
        server.answer = {"/api/packages/": (404, b""), "/api/jobs/": (200, job)}
        server.reads_after = 1.5
        connect_jobs(f"http://127.0.0.1:{server.port}").submit(ONE, "exec python", {}, look_at(tmp_path), {})
    assert server.taken["/api/packages/"] > 30_000_000 and server.taken["/api/jobs/"] > 0


def test_an_encrypted_address_needs_a_certificate_that_is_trusted(tmp_path, monkeypatch):
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "certificate"]
    try:
        named = [*made, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(named, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the test's certificate, is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    with Server(200, VERSION) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with pytest.raises(ClusterError, match=r"not trusted here \(self-signed certificate\).* REQUESTS_CA_BUNDLE"):
            connect_jobs(f"https://localhost:{server.port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate"))
        jobs = connect_jobs(f"https://localhost:{server.port}")
    assert jobs.client._ssl_context.get_ca_certs(), "what follows logs trusts the same authority"


def test_an_error_of_the_cluster_is_its_last_line_without_secrets():
    class Broken(FakeClient):
        def get_job_info(self, job_id: str) -> None:  # type: ignore[override]
            raise RuntimeError(
                "Request failed with status code 500: Traceback\n  File x\nValueError: db://me:secret@h."
            )

    with pytest.raises(ClusterError) as refused:
        Jobs(Broken(), "http://head").job(ONE)
    assert str(refused.value) == "Ray at http://head says: ValueError: db://***@h."


def test_a_job_is_shown_as_it_is():
    assert str(Job("a", "RUNNING", "")) == "a: RUNNING" and not Job("a", "PENDING", "").is_over
