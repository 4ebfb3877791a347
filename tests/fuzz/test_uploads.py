"""Uploads that lie, break off, or hold what no model holds: refused with a 4xx, and nothing of them
is averaged. `make soak` sends ten thousand and more.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.federation import value_of
from tests.support.plain_http import MODEL, bearer, http, running_experiment, send
from tests.support.processes import Server
from tests.support.raw_file import file_of, parts_of

EXAMPLES = int(os.environ.get("UPLOAD_EXAMPLES", "150"))
HEADER, BODY = parts_of(MODEL)


def with_body(header: object) -> bytes:
    return file_of(header, BODY)


def changed(**tensor: object) -> bytes:
    return with_body(HEADER | {"w": HEADER["w"] | tensor})


def filled(value: float, dtype: type = np.float32) -> bytes:
    tensors = safetensors.numpy.load(MODEL)
    return safetensors.numpy.save({n: np.full(t.shape, value, dtype) for n, t in tensors.items()})


HAND_MADE = {
    "one byte": b"x",
    "pickle": b"\x80\x04\x95" + b"pickle" * 20,
    "truncated": MODEL[:-1],
    "one byte more": MODEL + b"\0",
    "header only": MODEL[: -len(BODY)],
    "length beyond the file": struct.pack("<Q", 2**63) + MODEL[8:],
    "length of four megabytes": struct.pack("<Q", 4 * 2**20) + MODEL[8:],
    "length of zero": bytes(8) + MODEL[8:],
    "deep header": with_body(b"[" * 30_000),
    "header of NUL": with_body(bytes(1000)),
    "header not UTF-8": with_body(b'{"w\xff": 1}'),
    "header in UTF-16": with_body(json.dumps(HEADER).encode("utf-16")),
    "huge number": with_body(b'{"w": {"shape": [' + b"9" * 10_000 + b"]}}"),
    "no tensors": file_of({}),
    "a name twice": with_body(b'{"w": {}, "w": {}}'),
    "wrong name": with_body({("v" if n == "w" else n): t for n, t in HEADER.items()}),
    "one more tensor": with_body(
        HEADER | {"x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
    ),
    "wrong shape": changed(shape=[3, 2]),
    "wrong dtype": changed(dtype="I32"),
    "unknown dtype": changed(dtype="F8_E4M3"),
    "negative offset": changed(data_offsets=[-24, 0]),
    "huge offset": changed(data_offsets=[2**62, 2**62 + 24]),
    "overlap": changed(data_offsets=[4, 28]),
    "offsets turned round": changed(data_offsets=[24, 0]),
    "offsets of truth": changed(data_offsets=[False, True]),
    "zero-length tensor": changed(shape=[0, 2**60], data_offsets=[0, 0]),
    "negative shape": changed(shape=[-2, -3]),
    "shape of floats": changed(shape=[2.0, 3.0]),
    "NaN": filled(float("nan")),
    "infinity": filled(float("inf")),
    "minus infinity": filled(float("-inf")),
    "double": filled(1.0, np.float64),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    with Server(FL_DATA_DIR=str(folder), FL_RATE_PER_SECOND="0") as server:
        yield server


def rss_of(server: Server) -> int:
    """Resident bytes of the coordinator's process, now."""
    return _status(server, "VmRSS")


def peak_rss_of(server: Server) -> int:
    """The most that they ever were."""
    return _status(server, "VmHWM")


def _status(server: Server, name: str) -> int:
    text = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    return int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) * 1024


class Victim:
    """An experiment, a client of its cohort to send rubbish, and an honest one."""

    def __init__(self, server: Server) -> None:
        self.experiment, tokens = running_experiment(server.url, 2, rounds=1, dataset_size=1000)
        self.http = http(server.url)
        self.path = f"/experiments/{self.experiment}/rounds/1/update"
        self.bad, self.good = (bearer(token) for token in tokens)

    def rubbish(self, data: bytes, **lies: object) -> int:
        self.http.headers.update(self.bad)
        answer = send(self.http, self.path, data, {"num_examples": 10}, **lies)
        assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code

    def end(self) -> None:
        """The honest update alone becomes the model."""
        self.http.headers.update(self.good)
        sound = safetensors.numpy.load(MODEL)
        sound["w"] = np.full((2, 3), 7, np.float32)
        data = safetensors.numpy.save(sound)
        assert send(self.http, self.path, data, {"num_examples": 10}).status_code == 200
        shown = self.http.get(f"/experiments/{self.experiment}").json()
        assert (shown["state"], shown["history"][0]["accepted"]) == ("completed", 1)
        model = self.http.get(f"/experiments/{self.experiment}/models/1").content
        assert value_of(model) == 7
        self.http.close()


def test_no_made_up_file_is_accepted(server):
    victim = Victim(server)
    for name, data in HAND_MADE.items():
        assert victim.rubbish(data) == 422, name
    victim.rubbish(b"")
    for lies in (
        {"sha256": "0" * 64},
        {"sha256": "../" * 20},
        {"parts": ["0" * 64]},
        {"parts": []},
        {"parts": [MODEL.hex()[:64]] * 20_001},
        {"num_examples": -1},
        {"num_examples": 10**30},
        {"metrics": {"loss": float("nan")}},
    ):
        victim.rubbish(MODEL, **lies)
    victim.end()


def test_a_file_beyond_what_the_model_can_take_is_too_large(server):
    victim = Victim(server)
    assert victim.rubbish(MODEL + bytes(100_000)) == 413
    assert victim.rubbish(MODEL + bytes(50_000)) == 409  # nor may its parts fill the store
    victim.end()


@pytest.fixture(scope="module")
def victim(server):
    """Many are sent for one round: the store's quota makes a new one of it now and then."""
    held, before = [Victim(server), 0], rss_of(server)
    yield held
    held[0].end()
    grown = (peak_rss_of(server) - before) / 2**20
    print(
        f"figure: {EXAMPLES} files; resident memory {before / 2**20:.0f} MiB, peak +{grown:.0f} MiB"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
SPEC = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "U8", "F4"]) | JSON,
        "shape": st.lists(st.integers(-2, 2**65) | st.integers(0, 9), max_size=5) | JSON,
        "data_offsets": st.lists(st.integers(-9, 2**65) | st.integers(0, 2100), max_size=3) | JSON,
    },
)


def _flipped(at: int, bits: int) -> bytes:
    """A sound file with a byte of its header turned; a digit of an offset, for one."""
    data = bytearray(MODEL)
    data[at % (len(MODEL) - len(BODY))] ^= bits
    return bytes(data)


def _poisoned(at: int) -> bytes:
    data = bytearray(MODEL)
    start = len(MODEL) - len(BODY) + 4 * at
    data[start : start + 4] = struct.pack("<I", 0x7FC00000 | at)
    return bytes(data)


FILES = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.builds(_flipped, st.integers(0, 400), st.integers(1, 255)),
    st.integers(1, len(MODEL) - 1).map(lambda size: MODEL[:size]),
    st.builds(
        file_of,
        st.dictionaries(st.sampled_from(["w", "big", "x", ""]), SPEC),
        st.binary(max_size=99),
    ),
    SPEC.map(lambda spec: with_body(HEADER | {"w": HEADER["w"] | spec, "_": spec})),
    st.integers(0, 505).map(_poisoned),
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="UPLOAD_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
@given(data=FILES)
def test_no_generated_file_is_accepted(server, victim, data):
    if victim[1] >= 40:  # before the quota of one round's parts would answer for the codec
        victim[0].end()
        victim[:] = [Victim(server), 0]
    victim[1] += 1
    victim[0].rubbish(data)
    assert peak_rss_of(server) < 400 * 2**20


def test_a_body_ten_times_too_large_is_cut_off_while_it_streams(tmp_path):
    limit = 2**20
    settings_ = {"FL_DATA_DIR": str(tmp_path), "FL_PART_BYTES": str(limit)}
    with Server(**settings_) as server:
        victim = Victim(server)
        before, sent, chunk = rss_of(server), 0, bytes(64 * 1024)
        for token in (victim.bad["Authorization"], "Bearer nobody"):
            with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
                head = (
                    f"PUT /v1{victim.path}/parts/0?sha256={'0' * 64} HTTP/1.1\r\nHost: x\r\n"
                    f"Authorization: {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                connection.sendall(head.encode())
                try:
                    for _ in range(10 * limit // len(chunk)):
                        connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                        sent += len(chunk)
                    connection.sendall(b"0\r\n\r\n")
                    answer = connection.recv(65536)
                except ConnectionError:
                    answer = b""  # it hung up on us: just as well
                assert not answer or answer.split()[1] in (b"413", b"401"), answer
        grown = peak_rss_of(server) - before
        print(f"figure: {sent / 2**20:.1f} MiB sent, peak +{grown / 2**20:.1f} MiB")
        assert grown < 8 * 2**20
        victim.rubbish(HAND_MADE["NaN"])  # or the round would wait for this client
        victim.end()
