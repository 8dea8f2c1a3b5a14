"""Fetching, against a server on loopback that behaves well or badly by path."""

import contextlib
import gzip
import io
import pickle
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from altformer.data.config import DatasetConfig
from altformer.data.datasets import load
from altformer.data.download import Patience
from altformer.data.fetch import fetch, resolve_auto
from altformer.data.identity import content_hash, recorded_hash
from altformer.data.specs import Source
from altformer.errors import UserError

QUICK = Patience(connect=2, read=0.5, grace=0.3, rate=1000)


@pytest.fixture
def server():
    """Serves `server.files[path]`; the first part of the path says how."""
    files = {}
    served = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            manner, _, name = self.path.lstrip("/").partition("/")
            served.append(self.path)
            if manner == "forbidden":
                self.send_error(403)
                return
            if manner == "moved":
                self.send_response(302)
                self.send_header("Location", f"/whole/{name}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = gzip.compress(files[name]) if manner == "gzip" else files[name]
            self.send_response(200)
            if "chunked" in manner:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(body)))
            if manner == "gzip":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            with contextlib.suppress(OSError):  # the client lost patience, as it should
                SERVE[manner](self.wfile, body)
            self.close_connection = True

        def log_message(self, *_args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.files, httpd.served = files, served
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def whole(out, body):
    out.write(body)


def half(out, body):
    out.write(body[: len(body) // 2])


def stalling(out, body):
    out.write(body[:100])
    out.flush()
    time.sleep(2)


def dribbling(out, body):
    for byte in body:
        out.write(bytes([byte]))
        out.flush()
        time.sleep(0.05)


def chunked(out, body):
    for start in range(0, len(body), 100):
        part = body[start : start + 100]
        out.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
    out.write(b"0\r\n\r\n")


def half_chunked(out, body):
    out.write(f"{len(body):x}\r\n".encode() + body[: len(body) // 2])


SERVE = {
    "whole": whole,
    "gzip": whole,
    "half": half,
    "stalling": stalling,
    "dribbling": dribbling,
    "chunked": chunked,
    "half-chunked": half_chunked,
}


def npz(values):
    buffer = io.BytesIO()
    np.savez(buffer, data=values)
    return buffer.getvalue()


def left_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_whole_with_its_graph_and_stations(server, tiny, tmp_path):
    values = tiny(
        sources=(Source((f"{server.url}/whole/tiny.npz",), "tiny.npz"),),
        graph_sources=(Source((f"{server.url}/whole/roads.csv",), "tiny_graph.csv"),),
        id_sources=(Source((f"{server.url}/whole/ids.txt",), "tiny.txt"),),
    )
    server.files.update({"tiny.npz": npz(values), "roads.csv": b"from,to,cost\n31,32,1\n", "ids.txt": b"31\n32\n33\n"})
    fetched = fetch("TINY", tmp_path, QUICK)
    data = load(DatasetConfig(name="TINY"), tmp_path)
    np.testing.assert_array_equal(data.values, values)
    assert (data.sensor_ids, data.adjacency[0, 1]) == (("31", "32", "33"), 1)
    assert (fetched.path, fetched.graph) == (tmp_path / "TINY" / "tiny.npz", tmp_path / "TINY" / "tiny_graph.csv")
    assert fetched.origin == server.url.removeprefix("http://")
    assert recorded_hash(fetched.path) == data.content_hash
    assert left_in(tmp_path) == [
        f"TINY/{name}" for name in ("tiny.npz", "tiny.npz.content-hash", "tiny.txt", "tiny_graph.csv")
    ]


@pytest.mark.parametrize("manner", ["moved", "gzip", "chunked"])
def test_however_it_is_sent(manner, server, tiny, tmp_path):
    values = tiny(sources=(Source((f"{server.url}/{manner}/tiny.npz",), "tiny.npz"),))
    server.files["tiny.npz"] = npz(values)
    fetch("TINY", tmp_path, QUICK)
    np.testing.assert_array_equal(load(DatasetConfig(name="TINY"), tmp_path).values, values)


def test_what_is_there_is_verified_and_not_fetched(server, tiny, tmp_path):
    values = tiny(sources=(Source((f"{server.url}/whole/tiny.npz",), "tiny.npz"),))
    np.savez(tmp_path / "tiny.npz", data=values)
    assert fetch("TINY", tmp_path, QUICK).origin is None
    assert server.served == []
    np.savez(tmp_path / "tiny.npz", data=values[:5])
    with pytest.raises(UserError, match="expected 24 x 3"):
        fetch("TINY", tmp_path, QUICK)


def test_a_graph_is_added_to_readings_that_are_there(server, tiny, tmp_path):
    values = tiny(graph_sources=(Source((f"{server.url}/whole/roads.csv",), "tiny_graph.csv"),))
    server.files["roads.csv"] = b"from,to,cost\n0,1,1\n"
    np.savez(tmp_path / "tiny.npz", data=values)
    assert fetch("TINY", tmp_path, QUICK).graph == tmp_path / "tiny_graph.csv"


@pytest.mark.parametrize(
    ("manner", "change", "reason"),
    [
        ("forbidden", lambda values: values, "answered 403 Forbidden"),
        ("half", lambda values: values, "broke off"),
        ("half-chunked", lambda values: values, "broke off"),
        ("stalling", lambda values: values, "no data for 0.5 s"),
        ("dribbling", lambda values: values, "too slow"),
        ("whole", lambda values: values[:10], "shape: 10 rows x 3 sensors, expected 24 x 3"),
        ("whole", lambda values: values + 1, "hash: the readings differ"),
        ("whole", lambda values: values.astype(str), "readings must be numbers"),
    ],
)
def test_a_bad_place_is_named_and_leaves_nothing(manner, change, reason, server, tiny, tmp_path):
    values = tiny()
    tiny(content_hash=content_hash(values), sources=(Source((f"{server.url}/{manner}/tiny.npz",), "tiny.npz"),))
    server.files["tiny.npz"] = npz(change(values))
    with pytest.raises(UserError, match="TINY could not be fetched") as error:
        fetch("TINY", tmp_path, QUICK)
    assert f"- {server.url.removeprefix('http://')}: " in str(error.value)
    assert reason in str(error.value)
    for way in (str(tmp_path / "TINY" / "tiny.npz"), "ALTFORMER_DATA", "--dataset simulated"):
        assert way in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_html_page_instead_of_the_file(server, tiny, tmp_path):
    tiny(sources=(Source((f"{server.url}/whole/tiny.npz",), "tiny.npz"),))
    server.files["tiny.npz"] = b"<html>please log in</html>"
    with pytest.raises(UserError, match=r"tiny\.npz: not a readable"):
        fetch("TINY", tmp_path, QUICK)


def test_places_are_tried_in_order_until_one_is_right(server, tiny, tmp_path):
    paths = ("forbidden/tiny.npz", "half/tiny.npz", "whole/other.npz", "whole/tiny.npz", "whole/never.npz")
    values = tiny(sources=tuple(Source((f"{server.url}/{path}",), "tiny.npz") for path in paths))
    server.files.update({"tiny.npz": npz(values), "other.npz": npz(values[:4])})
    fetch("TINY", tmp_path, QUICK)
    assert server.served == [f"/{path}" for path in paths[:4]]
    np.testing.assert_array_equal(load(DatasetConfig(name="TINY"), tmp_path).values, values)


def test_a_silent_server_is_asked_once(tiny, tmp_path, unused_port):
    address = f"http://127.0.0.1:{unused_port}"
    tiny(sources=tuple(Source((f"{address}/{number}",), "tiny.npz") for number in range(3)))
    with pytest.raises(UserError, match="no connection") as error:
        fetch("TINY", tmp_path, QUICK)
    assert str(error.value).count(": no connection") == 1


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_zip_gives_the_member_that_is_known(server, tiny, tmp_path):
    values = tiny(sources=(Source((f"{server.url}/whole/tiny.zip",), "tiny.npz", form="zip"),))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../escape.txt", "never unpacked")
        archive.writestr("folder/tiny.npz", npz(values))
    server.files["tiny.zip"] = buffer.getvalue()
    fetch("TINY", tmp_path / "data", QUICK)
    assert left_in(tmp_path) == ["data/TINY/tiny.npz", "data/TINY/tiny.npz.content-hash"]


@pytest.mark.parametrize(("content", "reason"), [(b"no zip", "not a zip archive"), (None, "holds none of tiny.npz")])
def test_a_wrong_zip(content, reason, server, tiny, tmp_path):
    tiny(sources=(Source((f"{server.url}/whole/tiny.zip",), "tiny.npz", form="zip"),))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other.npz", b"")
    server.files["tiny.zip"] = content or buffer.getvalue()
    with pytest.raises(UserError, match=reason):
        fetch("TINY", tmp_path, QUICK)


def windows(values, names):
    """The table of windows that Hugging Face's witgaw/METR-LA holds, in three parts."""
    times = pd.date_range("2024-03-01", periods=len(values), freq="5min")
    rows = []
    for origin in range(11, len(values) - 12):
        for column, name in enumerate(names):
            row = {"node_id": name, "t0_timestamp": times[origin]}
            row |= {f"x_t{step:+d}_d0": values[origin + step, column] for step in range(-11, 1)}
            row |= {f"y_t{step:+d}_d0": values[origin + step, column] for step in range(1, 13)}
            rows.append(row)
    frame = pd.DataFrame(rows)
    for part in np.array_split(np.arange(len(frame)), 3):
        buffer = io.BytesIO()
        frame.iloc[part].sample(frac=1, random_state=0).to_parquet(buffer)
        yield buffer.getvalue()


def test_windows_are_joined_to_readings_in_the_order_of_the_graph(server, tiny, tmp_path):
    values = np.random.default_rng(0).integers(1, 70, (60, 3)).astype(np.float32)
    parts = ("train", "val", "test")
    tiny(
        shape=(60, 3),
        content_hash=content_hash(values),
        sources=(Source(tuple(f"{server.url}/whole/{part}" for part in parts), "tiny.parquet", form="windows"),),
        graph_sources=(Source((f"{server.url}/whole/graph",), "tiny_graph.pkl"),),
    )
    names = ("773", "171", "502")  # not in numeric order
    server.files.update(zip(parts, windows(values, names), strict=True))
    server.files["graph"] = pickle.dumps([list(names), {}, np.eye(3, dtype=np.float32)], protocol=2)
    fetch("TINY", tmp_path, QUICK)
    data = load(DatasetConfig(name="TINY"), tmp_path)
    np.testing.assert_array_equal(data.values, values)
    assert data.sensor_ids == names


def test_a_table_that_holds_no_windows(server, tiny, tmp_path):
    buffer = io.BytesIO()
    pd.DataFrame({"a": [1]}).to_parquet(buffer)
    server.files["x"] = buffer.getvalue()
    tiny(sources=(Source((f"{server.url}/whole/x",), "tiny.parquet", form="windows"),))
    with pytest.raises(UserError, match="not a table of windows"):
        fetch("TINY", tmp_path, QUICK)


@pytest.mark.parametrize("text", ["from,to,cost\n0,9,1\n", "<html>"])
def test_readings_without_a_graph_that_fits_are_kept_with_a_note(text, server, tiny, tmp_path):
    values = tiny(
        sources=(Source((f"{server.url}/whole/tiny.npz",), "tiny.npz"),),
        graph_sources=(Source((f"{server.url}/whole/roads.csv",), "tiny_graph.csv"),),
    )
    server.files.update({"tiny.npz": npz(values), "roads.csv": text.encode()})
    fetched = fetch("TINY", tmp_path, QUICK)
    assert fetched.graph is None
    assert "without its road graph" in fetched.notes[0]
    assert "tiny_graph.csv" not in left_in(tmp_path)


def test_a_folder_that_cannot_be_made(tiny, tmp_path):
    tiny()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write to"):
        fetch("TINY", tmp_path / "file", QUICK)


def test_a_name_without_public_places(tmp_path):
    with pytest.raises(UserError, match="unknown data set to fetch 'simulated'"):
        fetch("simulated", tmp_path)


def test_auto(server, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("altformer.data.fetch.PREFERRED", "TINY")
    values = tiny(sources=(Source((f"{server.url}/forbidden/tiny.npz",), "tiny.npz"),))
    name, reason = resolve_auto(tmp_path, QUICK)
    assert name == "simulated"
    assert reason.startswith("Data set: simulated (auto: TINY is neither in ")
    tiny(sources=(Source((f"{server.url}/whole/tiny.npz",), "tiny.npz"),))
    server.files["tiny.npz"] = npz(values)
    name, reason = resolve_auto(tmp_path, QUICK)
    assert (name, "fetched from 127.0.0.1" in reason) == ("TINY", True)
    asked = len(server.served)
    name, reason = resolve_auto(tmp_path, QUICK)
    assert (name, "found" in reason, len(server.served)) == ("TINY", True, asked)


def test_auto_does_not_pass_over_a_broken_file(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("altformer.data.fetch.PREFERRED", "TINY")
    tiny()
    (tmp_path / "tiny.npz").write_bytes(b"half a file")
    assert resolve_auto(tmp_path, QUICK)[0] == "TINY"
    with pytest.raises(UserError, match="not a readable"):
        load(DatasetConfig(name="TINY"), tmp_path)
