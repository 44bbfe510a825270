#!/usr/bin/env python3
"""Black-box test of `clip-aware serve` over stdio, in both protocol eras.

    python tools/mcp_blackbox.py --binary target/release/clip-aware [--root DIR] [--model starter] [--only WORD] [--verbose]
        [--detector WEIGHTS [--photo FILE:SUBJECT:OBJECT]]

A raw client writes lines and compares answers; a second pass drives the server through the PyPI package `mcp`
(`pip install mcp==2.3.0 pillow`). Images are made here, in a temporary folder under --root (default: the system's).
Prints one line per failure and, at the end, `N passed, N failed`; exits 1 when something failed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

OLD_VERSIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
NEW_VERSION = "2026-07-28"
VERSIONS = OLD_VERSIONS + [NEW_VERSION]
TOOLS = ["route_query", "clip_search", "classify_image", "detect_count", "spatial_relation", "match_captions",
         "explain_limitation", "index_folder"]
META = "io.modelcontextprotocol/"
PATIENCE_S = 60.0


# ---- results -------------------------------------------------------------------------------------------------------


class Tally:
    """Counts cases; a case is a named block that passes when nothing in it raises."""

    def __init__(self, only, verbose):
        self.passed, self.failed, self.only, self.verbose = 0, 0, only, verbose

    @contextlib.contextmanager
    def case(self, name):
        try:
            yield
        except Exception as error:  # a failed case must not stop the others
            self.failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {str(error)[:600]}", flush=True)
        else:
            self.passed += 1
            if self.verbose:
                print(f"passed {name}", flush=True)

    def wants(self, name):
        return self.only is None or self.only in name


def equal(found, expected, context=""):
    if found != expected:
        raise AssertionError(f"{context} found {found!r}, expected {expected!r}")


def true(condition, context):
    if not condition:
        raise AssertionError(context)


# ---- the raw client ------------------------------------------------------------------------------------------------


class Server:
    """The program with its pipes; reads stdout in a thread and insists that every line is one JSON-RPC message."""

    def __init__(self, setup, stderr=subprocess.DEVNULL, read=True, environment=None):
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            setup.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            env={**os.environ, "CLIP_AWARE_OFFLINE": "1", **(environment or {})},
        )
        self.messages, self.bad_lines, self.ids = queue.Queue(), [], 0
        if read:
            threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        equal(self.bad_lines, [], "lines on stdout that are no JSON-RPC")

    def _read(self):
        for line in self.process.stdout:
            try:
                message = json.loads(line)
                assert message["jsonrpc"] == "2.0" and line.endswith(b"\n")
                self.messages.put(message)
            except Exception:
                self.bad_lines.append(line[:200])
        self.messages.put(None)

    def write(self, data):
        self.process.stdin.write(data if isinstance(data, bytes) else data.encode() + b"\n")
        self.process.stdin.flush()

    def send(self, message):
        self.write(json.dumps(message))

    def next(self, timeout=PATIENCE_S):
        message = self.messages.get(timeout=timeout)
        true(message is not None, "the server closed its output")
        return message

    def silent(self, seconds=0.3):
        with contextlib.suppress(queue.Empty):
            message = self.messages.get(timeout=seconds)
            raise AssertionError(f"unexpected {json.dumps(message)[:200]}")

    def answer(self, identifier, timeout=PATIENCE_S):
        """The answer with this id, and the notifications that came before it."""
        notifications, deadline = [], time.monotonic() + timeout
        while True:
            message = self.next(max(0.01, deadline - time.monotonic()))
            if message.get("id") == identifier and "method" not in message:
                return message, notifications
            notifications.append(message)

    def request(self, method, params=None, version=None, token=None, identifier=None):
        """A request without sending it; in the new era with its metadata."""
        if identifier is None:
            self.ids += 1
            identifier = self.ids
        message = {"jsonrpc": "2.0", "id": identifier, "method": method}
        meta = {}
        if version == NEW_VERSION:
            meta = {META + "protocolVersion": version, META + "clientCapabilities": {},
                    META + "clientInfo": {"name": "blackbox", "version": "1"}}
        if token is not None:
            meta["progressToken"] = token
        if params is not None or meta:
            message["params"] = {**(params or {}), **({"_meta": meta} if meta else {})}
        return message

    def ask(self, method, params=None, version=None, token=None, timeout=PATIENCE_S):
        message = self.request(method, params, version, token)
        self.send(message)
        return self.answer(message["id"], timeout)[0]

    def open(self, version):
        """Opens a conversation in the version's own way."""
        if version == NEW_VERSION:
            return self.ask("server/discover", {}, version)
        answer = self.ask("initialize", {"protocolVersion": version, "capabilities": {},
                                         "clientInfo": {"name": "blackbox", "version": "1"}})
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def call(self, tool, arguments, version=None, token=None, timeout=PATIENCE_S):
        return self.ask("tools/call", {"name": tool, "arguments": arguments}, version, token, timeout)

    def alive(self):
        equal(self.ask("ping"), {"jsonrpc": "2.0", "id": self.ids, "result": {}})

    def ends(self, within_s):
        start = time.monotonic()
        equal(self.process.wait(timeout=PATIENCE_S), 0, "exit code")
        took = time.monotonic() - start
        true(took < within_s, f"took {took:.2f} s to end")


def code(answer):
    true("error" in answer, f"no error: {json.dumps(answer)[:300]}")
    return answer["error"]["code"]


def result(answer):
    true("result" in answer, f"no result: {json.dumps(answer)[:300]}")
    return answer["result"]


def text(answer):
    return result(answer)["content"][0]["text"]


def is_fault(answer, *words):
    """A failure that the caller can mend: a result with isError, an `error:` line and, if any, the words."""
    equal(result(answer).get("isError"), True, json.dumps(answer)[:300])
    true(text(answer).startswith("error: "), text(answer))
    for word in words:
        true(word in text(answer), f"{word!r} is not in {text(answer)!r}")


# ---- images --------------------------------------------------------------------------------------------------------


class Setup:
    """A root with images, a data folder, and the command."""

    COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "yellow": (235, 215, 40)}
    SHAPES = ["circle", "square", "triangle"]

    def __init__(self, binary, model, folder, detector=None, photo=None):
        self.detector, self.photo = detector, photo
        self.root = folder / "root"
        self.data = folder / "data"
        self.photos = self.root / "shapes"
        self.command = [str(binary), "--root", str(self.root), "--data-dir", str(self.data), "--model", model]
        self.command += [*(["--detector", str(detector)] if detector else []), "serve"]
        self.photos.mkdir(parents=True)
        for colour in self.COLOURS:
            for shape in self.SHAPES:
                self.draw(self.photos / f"{colour}_{shape}.png", colour, shape)
        (self.photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n then nothing")
        (self.photos / "empty.jpg").write_bytes(b"")
        (self.photos / "notes.txt").write_text("no image")
        outside = folder / "outside"
        outside.mkdir()
        self.draw(outside / "secret.png", "red", "circle")
        self.outside = outside / "secret.png"
        (self.root / "link.png").symlink_to(self.outside)
        (self.root / "linked_folder").symlink_to(outside)
        (self.root / "many").mkdir()
        for number in range(400):
            self.draw(self.root / "many" / f"{number:03}.png", list(self.COLOURS)[number % 4], "circle", f"many{number}")

    def draw(self, path, colour, shape, seed=0):
        from PIL import Image, ImageDraw

        chance = random.Random(f"{colour}{shape}{seed}")
        side = 128
        image = Image.new("RGB", (side, side), (245, 245, 245))
        pen, fill = ImageDraw.Draw(image), self.COLOURS[colour]
        radius = chance.randint(38, 48)
        x, y = chance.randint(56, 72), chance.randint(56, 72)
        corners = (x - radius, y - radius, x + radius, y + radius)
        if shape == "circle":
            pen.ellipse(corners, fill=fill)
        elif shape == "square":
            pen.rectangle(corners, fill=fill)
        else:
            pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
        # Equal pictures are embedded once; a speck of noise makes each one different.
        for place in range(8):
            image.putpixel((place, 0), tuple(chance.randint(235, 255) for _ in range(3)))
        image.save(path)


# ---- cases: lifecycle ----------------------------------------------------------------------------------------------


def lifecycle(tally, setup):
    for version in OLD_VERSIONS:
        with tally.case(f"initialize {version}"), Server(setup) as server:
            answer = result(server.open(version))
            equal(answer["protocolVersion"], version)
            equal(answer["serverInfo"]["name"], "clip-aware")
            equal(sorted(answer["capabilities"]), ["completions", "extensions", "prompts", "resources", "tools"])
            true(len(answer["instructions"].encode()) < 2048, "instructions too long")
            server.alive()
    for version in ["1999-01-01", NEW_VERSION, "2099-12-31", "", "x"]:
        with tally.case(f"initialize with unknown version {version!r}"), Server(setup) as server:
            answer = server.ask("initialize", {"protocolVersion": version, "capabilities": {},
                                               "clientInfo": {"name": "b", "version": "1"}})
            equal(result(answer)["protocolVersion"], "2025-11-25")
    for params in [None, {}, [], "x", {"protocolVersion": 5, "capabilities": {}, "clientInfo": {}},
                   {"capabilities": {}, "clientInfo": {"name": "b", "version": "1"}}]:
        with tally.case(f"initialize with params {params!r}"), Server(setup) as server:
            message = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
            if params is not None:
                message["params"] = params
            server.send(message)
            equal(code(server.next()), -32602)
            equal(result(server.open("2025-11-25"))["protocolVersion"], "2025-11-25", "a second try")
    with tally.case("discover"), Server(setup) as server:
        answer = result(server.open(NEW_VERSION))
        equal(sorted(answer["supportedVersions"]), VERSIONS)
        equal(answer["resultType"], "complete")
        true(answer["ttlMs"] >= 0 and answer["cacheScope"] in ("public", "private"), "cache hints")
        equal(answer["_meta"][META + "serverInfo"]["name"], "clip-aware")
        result(server.open(NEW_VERSION))
    for old in OLD_VERSIONS:
        with tally.case(f"discover, then initialize {old}"), Server(setup) as server:
            server.open(NEW_VERSION)
            equal(result(server.open(old))["protocolVersion"], old)
            result(server.ask("tools/list"))
            result(server.ask("tools/list", {}, NEW_VERSION))
    with tally.case("initialize twice, other version"), Server(setup) as server:
        server.open("2024-11-05")
        equal(result(server.open("2025-11-25"))["protocolVersion"], "2025-11-25")
        server.alive()
    with tally.case("a new-era request, then initialize"), Server(setup) as server:
        result(server.ask("tools/list", {}, NEW_VERSION))
        result(server.open("2025-06-18"))
        result(server.ask("tools/list"))
    for method, params in [("tools/list", None), ("tools/call", {"name": "clip_search"}), ("resources/list", None),
                           ("resources/read", {"uri": "clip-aware://index/status"}), ("prompts/list", None),
                           ("prompts/get", {"name": "plan_vision_request"}), ("completion/complete", {})]:
        with tally.case(f"{method} before any opening"), Server(setup) as server:
            equal(code(server.ask(method, params)), -32602)
            result(server.open("2025-11-25"))
    with tally.case("ping before any opening"), Server(setup) as server:
        server.alive()
    with tally.case("early notifications"), Server(setup) as server:
        for method in ["notifications/initialized", "notifications/cancelled", "notifications/progress", "x"]:
            server.send({"jsonrpc": "2.0", "method": method, "params": {"requestId": 1}})
        server.send({"jsonrpc": "2.0", "id": 1, "result": {}})
        server.send({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}})
        server.silent()
        result(server.open("2025-11-25"))
    for missing, expected in [("protocolVersion", -32602), ("clientCapabilities", -32602), ("clientInfo", None)]:
        for method in ["tools/list", "server/discover"]:
            with tally.case(f"{method} without {missing}"), Server(setup) as server:
                message = server.request(method, {}, NEW_VERSION)
                del message["params"]["_meta"][META + missing]
                server.send(message)
                answer = server.next()
                result(answer) if expected is None else equal(code(answer), expected)
    for version, expected in [("2030-01-01", -32022), ("x", -32022), (5, -32602)]:
        with tally.case(f"per-request version {version!r}"), Server(setup) as server:
            message = server.request("tools/list", {}, NEW_VERSION)
            message["params"]["_meta"][META + "protocolVersion"] = version
            server.send(message)
            answer = server.next()
            equal(code(answer), expected)
            if expected == -32022:
                equal(answer["error"]["data"]["requested"], version)
                true(NEW_VERSION in answer["error"]["data"]["supported"], "supported versions")
    for method in ["ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/get", "tasks/list",
                   "roots/list", "sampling/createMessage", "no/such", "", "tools", "rpc.discover"]:
        with tally.case(f"new era: {method!r} is not served"), Server(setup) as server:
            answer = server.ask(method, {"level": "debug", "uri": "clip-aware://index/status", "taskId": "1"}, NEW_VERSION)
            equal(code(answer), -32601)
    for method in ["logging/setLevel", "resources/subscribe", "roots/list", "sampling/createMessage", "no/such", "tools",
                   "subscriptions/listen"]:
        with tally.case(f"old era: {method!r} is not served"), Server(setup) as server:
            server.open("2025-11-25")
            answer = server.ask(method, {"level": "debug", "uri": "clip-aware://index/status", "notifications": {}})
            equal(code(answer), -32601)


# ---- cases: malformed input ----------------------------------------------------------------------------------------

DIGITS = "9" * 400
DEEP = "[" * 50_000 + "]" * 50_000
MALFORMED = [
    # name, line, id of the answer (None is null), code
    ("an open brace", "{", None, -32700),
    ("a word", "hello", None, -32700),
    ("a cut request", '{"jsonrpc":"2.0","id":5,"method":"pi', None, -32700),
    ("a trailing comma", '{"jsonrpc":"2.0","id":5,"method":"ping",}', None, -32700),
    ("two objects on a line", '{"jsonrpc":"2.0","id":5,"method":"ping"}{"jsonrpc":"2.0","id":6,"method":"ping"}', None, -32700),
    ("single quotes", "{'jsonrpc':'2.0','id':5,'method':'ping'}", None, -32700),
    ("NaN", '{"jsonrpc":"2.0","id":5,"method":"ping","params":{"x":NaN}}', None, -32700),
    ("a lone surrogate", '{"jsonrpc":"2.0","id":5,"method":"\\ud800"}', None, None),
    ("a control character", '{"jsonrpc":"2.0","id":5,"method":"a\x01b"}', None, -32700),
    ("invalid UTF-8", b'{"jsonrpc":"2.0","id":5,"method":"\xff\xfe"}\n', None, -32700),
    ("an HTTP request", "POST /mcp HTTP/1.1", None, -32700),
    ("a header of another framing", "Content-Length: 52", None, -32700),
    ("an empty batch", "[]", None, -32600),
    ("a batch", '[{"jsonrpc":"2.0","id":5,"method":"ping"}]', None, -32600),
    ("a number", "5", None, -32600),
    ("a string", '"ping"', None, -32600),
    ("null", "null", None, -32600),
    ("true", "true", None, -32600),
    ("an empty object", "{}", None, -32600),
    ("no jsonrpc", '{"id":5,"method":"ping"}', 5, -32600),
    ("jsonrpc 1.0", '{"jsonrpc":"1.0","id":5,"method":"ping"}', 5, -32600),
    ("jsonrpc a number", '{"jsonrpc":2.0,"id":5,"method":"ping"}', 5, -32600),
    ("no method", '{"jsonrpc":"2.0","id":5}', 5, -32600),
    ("method null", '{"jsonrpc":"2.0","id":5,"method":null}', 5, -32600),
    ("method a number", '{"jsonrpc":"2.0","id":5,"method":1}', 5, -32600),
    ("method an object", '{"jsonrpc":"2.0","id":5,"method":{}}', 5, -32600),
    ("method and result", '{"jsonrpc":"2.0","id":5,"method":"ping","result":{}}', 5, -32600),
    ("method and error", '{"jsonrpc":"2.0","id":5,"method":"ping","error":{}}', 5, -32600),
    ("id null", '{"jsonrpc":"2.0","id":null,"method":"ping"}', None, -32600),
    ("id true", '{"jsonrpc":"2.0","id":true,"method":"ping"}', None, -32600),
    ("id an object", '{"jsonrpc":"2.0","id":{},"method":"ping"}', None, -32600),
    ("id an array", '{"jsonrpc":"2.0","id":[5],"method":"ping"}', None, -32600),
    ("id a fraction", '{"jsonrpc":"2.0","id":5.5,"method":"ping"}', 5.5, -32600),
    ("id of 20 digits", '{"jsonrpc":"2.0","id":18446744073709551615,"method":"ping"}', 18446744073709551615, -32600),
    ("id of 400 digits", f'{{"jsonrpc":"2.0","id":{DIGITS},"method":"ping"}}', None, -32600),
    ("id twice", '{"jsonrpc":"2.0","id":5,"id":6,"method":"ping"}', 5, -32600),
    ("method twice", '{"jsonrpc":"2.0","id":5,"method":"ping","method":"tools/list"}', 5, -32600),
    ("400 digits in arguments", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"clip_search","arguments":{"top_k":%s}}}' % DIGITS, 5, -32600),
    ("400 digits in ping", '{"jsonrpc":"2.0","id":5,"method":"ping","params":{"x":%s}}' % DIGITS, 5, -32600),
    ("1e999", '{"jsonrpc":"2.0","id":5,"method":"ping","params":{"x":1e999}}', 5, -32600),
    ("deep arrays in params", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"x":%s}}' % DEEP, 5, -32600),
    ("deep arrays before the id", '{"params":{"x":%s},"jsonrpc":"2.0","method":"ping","id":"z"}' % DEEP, "z", -32600),
    ("deep arrays alone", DEEP, None, -32600),
    ("deep objects", '{"jsonrpc":"2.0","id":5,"method":"ping","params":%s}' % ('{"a":' * 20000 + "1" + "}" * 20000), 5, -32600),
    ("params a string", '{"jsonrpc":"2.0","id":5,"method":"tools/list","params":"x"}', 5, -32602),
    ("params an array", '{"jsonrpc":"2.0","id":5,"method":"tools/list","params":[]}', 5, -32602),
    ("params a number", '{"jsonrpc":"2.0","id":5,"method":"tools/list","params":1}', 5, -32602),
    ("call params an array", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":["clip_search"]}', 5, -32602),
    ("call params a string", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":"clip_search"}', 5, -32602),
    ("call without params", '{"jsonrpc":"2.0","id":5,"method":"tools/call"}', 5, -32602),
    ("call without a name", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"arguments":{}}}', 5, -32602),
    ("call with a number for a name", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":1}}', 5, -32602),
    ("call with null for a name", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":null}}', 5, -32602),
    ("call of an unknown tool", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"nope","arguments":{}}}', 5, -32602),
    ("call of an empty name", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":""}}', 5, -32602),
    ("arguments an array", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"clip_search","arguments":[]}}', 5, -32602),
    ("arguments a string", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"clip_search","arguments":"x"}}', 5, -32602),
    ("_meta an array", '{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"_meta":[]}}', 5, -32602),
    ("_meta a string", '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"clip_search","_meta":"x"}}', 5, -32602),
    ("read without a uri", '{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{}}', 5, -32602),
    ("read with a number for a uri", '{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{"uri":5}}', 5, -32602),
    ("prompt without a name", '{"jsonrpc":"2.0","id":5,"method":"prompts/get","params":{}}', 5, -32602),
    ("an unknown prompt", '{"jsonrpc":"2.0","id":5,"method":"prompts/get","params":{"name":"x"}}', 5, -32602),
    ("prompt arguments an array", '{"jsonrpc":"2.0","id":5,"method":"prompts/get","params":{"name":"plan_vision_request","arguments":[]}}', 5, -32602),
    ("prompt without its argument", '{"jsonrpc":"2.0","id":5,"method":"prompts/get","params":{"name":"plan_vision_request"}}', 5, -32602),
    ("prompt with a number", '{"jsonrpc":"2.0","id":5,"method":"prompts/get","params":{"name":"plan_vision_request","arguments":{"request":5}}}', 5, -32602),
    ("completion without a ref", '{"jsonrpc":"2.0","id":5,"method":"completion/complete","params":{"argument":{"name":"a","value":"b"}}}', 5, -32602),
    ("completion of an unknown kind", '{"jsonrpc":"2.0","id":5,"method":"completion/complete","params":{"ref":{"type":"ref/x"},"argument":{"name":"a","value":"b"}}}', 5, -32602),
    ("completion of an unknown prompt", '{"jsonrpc":"2.0","id":5,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"x"},"argument":{"name":"a","value":"b"}}}', 5, -32602),
    ("a notification without jsonrpc", '{"method":"notifications/initialized"}', None, -32600),
]


def malformed(tally, setup):
    for version in ["2025-11-25", NEW_VERSION]:
        with Server(setup) as server:
            # After initialize the new era is spoken per request; the malformed lines carry no metadata of it.
            server.open("2025-11-25") if version != NEW_VERSION else server.open(version)
            for name, line, identifier, expected in MALFORMED:
                with tally.case(f"malformed ({version}): {name}"):
                    server.write(line)
                    answer = server.next()
                    found = code(answer)
                    if expected is not None:
                        equal((answer.get("id"), found), (identifier, expected), json.dumps(answer)[:200])
                    server.alive() if version != NEW_VERSION else result(server.open(version))
    with tally.case("BOM, CRLF, blank lines, blanks around"), Server(setup) as server:
        server.write(b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}\r\n\r\n\n  \t \n  {"jsonrpc":"2.0","id":2,"method":"ping"}  \n')
        equal([server.next()["id"], server.next()["id"]], [1, 2])
    for identifier in [0, -1, 2**53, 2**63 - 1, "", "a b", "\u00e9\u4e16\U0001f600", "x" * 10_000, "\\\"\n"]:
        with tally.case(f"id {str(identifier)[:20]!r} comes back"), Server(setup) as server:
            server.send({"jsonrpc": "2.0", "id": identifier, "method": "ping"})
            equal(server.next(), {"jsonrpc": "2.0", "id": identifier, "result": {}})
    for size_mib in [15, 17, 40]:
        with tally.case(f"a line of {size_mib} MiB"), Server(setup) as server:
            server.open("2025-11-25")
            server.write(b'{"jsonrpc":"2.0","id":"big","method":"ping","params":{"x":"' + b"a" * (size_mib << 20) + b'"}}\n')
            answer = server.answer("big")[0]
            result(answer) if size_mib < 16 else equal(code(answer), -32600)
            true(resident_mib(server.process.pid, "VmHWM") < 160, "peak memory")
            server.alive()
    with tally.case("an overlong line with its id at the end"), Server(setup) as server:
        server.write(b'{"method":"ping","params":{"x":"' + b"a" * (17 << 20) + b'"},"jsonrpc":"2.0","id":77}\n')
        equal(code(server.answer(77)[0]), -32600)
    with tally.case("a request in single bytes"), Server(setup) as server:
        for byte in b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n':
            server.write(bytes([byte]))
        equal(server.next()["id"], 1)
    with tally.case("unknown notifications and unasked answers are ignored"), Server(setup) as server:
        server.open("2025-11-25")
        for message in [{"method": "x"}, {"method": "notifications/x", "params": {"a": 1}}, {"method": "tools/list"},
                        {"method": "notifications/cancelled", "params": {"requestId": 12345}},
                        {"method": "notifications/cancelled", "params": {}}, {"method": "notifications/cancelled"},
                        {"method": "notifications/cancelled", "params": []}, {"id": 99, "result": {}},
                        {"id": 99, "error": {"code": 1, "message": "x"}}]:
            server.send({"jsonrpc": "2.0", **message})
        server.silent()
        server.alive()
    with tally.case("random bytes"), Server(setup) as server:
        chance = random.Random(7)
        for _ in range(300):
            server.write(bytes(chance.choice(b'{}[]",:0123456789abc\\ \xff\x00') for _ in range(chance.randint(1, 80))) + b"\n")
        server.open("2025-11-25")
        server.alive()
    with tally.case("mutated requests"), Server(setup) as server:
        chance, template = random.Random(8), b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"classify_image","arguments":{"images":[],"labels":["a"]}}}'
        for _ in range(500):
            line = bytearray(template)
            for _ in range(chance.randint(1, 3)):
                line[chance.randrange(len(line))] = chance.choice(b'{}[]",:0aZ-. ')
            server.write(bytes(line) + b"\n")
        server.open("2025-11-25")
        server.alive()


# ---- cases: lists, resources, prompts, completions -----------------------------------------------------------------


def catalogue(tally, setup):
    for version in VERSIONS:
        with Server(setup) as server:
            server.open(version)
            new = version == NEW_VERSION
            for method, key in [("tools/list", "tools"), ("resources/list", "resources"),
                                ("resources/templates/list", "resourceTemplates"), ("prompts/list", "prompts")]:
                with tally.case(f"{version}: {method}"):
                    first, second = result(server.ask(method, {}, version)), result(server.ask(method, {}, version))
                    equal(first, second, "order")
                    true(first[key], "an empty list")
                    equal("ttlMs" in first and "cacheScope" in first, new, "cache hints")
                    equal(first.get("resultType"), "complete" if new else None)
                    true("nextCursor" not in first, "one page")
                for cursor in [5, "abc", {}]:
                    with tally.case(f"{version}: {method} with cursor {cursor!r}"):
                        equal(code(server.ask(method, {"cursor": cursor}, version)), -32602)
            with tally.case(f"{version}: unknown resource"):
                answer = server.ask("resources/read", {"uri": "clip-aware://nope"}, version)
                equal((code(answer), answer["error"]["data"]["uri"]), (-32602 if new else -32002, "clip-aware://nope"))
            with tally.case(f"{version}: index status"):
                contents = result(server.ask("resources/read", {"uri": "clip-aware://index/status"}, version))["contents"]
                equal((contents[0]["uri"], contents[0]["mimeType"]), ("clip-aware://index/status", "application/json"))
                json.loads(contents[0]["text"])
            with tally.case(f"{version}: every listed resource can be read"):
                for resource in result(server.ask("resources/list", {}, version))["resources"]:
                    true(result(server.ask("resources/read", {"uri": resource["uri"]}, version))["contents"], resource)
            with tally.case(f"{version}: prompt"):
                answer = result(server.ask("prompts/get", {"name": "plan_vision_request",
                                                           "arguments": {"request": "count dogs"}}, version))
                true("count dogs" in answer["messages"][0]["content"]["text"], "the request")
            for argument, value, expected in [("folder", "sha", ["shapes"]), ("folder", "zzz", []), ("folder", "../", []),
                                              ("folder", "/et", []), ("request", "x", [])]:
                with tally.case(f"{version}: completion of {argument} {value!r}"):
                    answer = server.ask("completion/complete", {
                        "ref": {"type": "ref/prompt", "name": "plan_vision_request"},
                        "argument": {"name": argument, "value": value}}, version)
                    equal(result(answer)["completion"]["values"], expected)
            with tally.case(f"{version}: completion of a model"):
                answer = server.ask("completion/complete", {
                    "ref": {"type": "ref/resource", "uri": "clip-aware://models/{name}"},
                    "argument": {"name": "name", "value": ""}}, version)
                true(isinstance(result(answer)["completion"]["values"], list), "values")
    with tally.case("tool definitions"), Server(setup) as server:
        server.open("2025-11-25")
        tools = result(server.ask("tools/list"))["tools"]
        true(set(TOOLS) <= {tool["name"] for tool in tools}, "the tools")
        for tool in tools:
            true(tool["title"] and 100 < len(tool["description"]) < 1024, tool["name"])
            equal(sorted(tool["annotations"]), ["destructiveHint", "idempotentHint", "openWorldHint", "readOnlyHint"])
            equal(tool["inputSchema"]["type"], "object")
            equal(tool["outputSchema"]["type"], "object")
            true("$ref" not in json.dumps(tool), "references")
        size = len(json.dumps(tools, separators=(",", ":")))
        true(size / 4 <= 4000 * len(tools) / 9, f"{size} bytes")


# ---- cases: tools --------------------------------------------------------------------------------------------------

WRONG_ARGUMENTS = [
    # tool, arguments, words of the fault
    ("clip_search", {"topk": 3, "query": "x"}, ["unknown argument `topk`", "`top_k`", "hint: "]),
    ("clip_search", {"query": "x", "zzz": 1}, ["unknown argument `zzz`"]),
    ("clip_search", {}, []),
    ("clip_search", {"query": 5}, ["`query`"]),
    ("clip_search", {"query": ["x"]}, ["`query`"]),
    ("clip_search", {"query": ""}, []),
    ("clip_search", {"query": "x", "top_k": 0}, ["`top_k`"]),
    ("clip_search", {"query": "x", "top_k": -1}, ["`top_k`"]),
    ("clip_search", {"query": "x", "top_k": 1e9}, ["`top_k`"]),
    ("clip_search", {"query": "x", "top_k": 1.5}, ["`top_k`"]),
    ("clip_search", {"query": "x", "top_k": "5"}, ["`top_k`"]),
    ("clip_search", {"query": "x", "min_relevance": 2}, ["`min_relevance`"]),
    ("clip_search", {"query": "x", "min_relevance": "high"}, ["`min_relevance`"]),
    ("clip_search", {"query": "x", "thumbnails": "yes"}, ["`thumbnails`"]),
    ("clip_search", {"query": "x", "verify": 1}, ["`verify`"]),
    ("clip_search", {"query": "x", "folder": 5}, ["`folder`"]),
    ("clip_search", {"image": "no_such.png"}, ["no_such.png"]),
    ("clip_search", {"image": "shapes/notes.txt"}, []),
    ("clip_search", {"image": "shapes"}, []),
    ("clip_search", {"query": "x", "folder": "no_such"}, ["no_such"]),
    ("classify_image", {}, ["is required"]),
    ("classify_image", {"images": ["shapes/red_circle.png"]}, ["`labels` is required"]),
    ("classify_image", {"labels": ["a"]}, ["`images` is required"]),
    ("classify_image", {"images": [], "labels": ["a"]}, ["`images`"]),
    ("classify_image", {"images": ["shapes/red_circle.png"], "labels": []}, ["`labels`"]),
    ("classify_image", {"images": "shapes/red_circle.png", "labels": ["a"]}, ["`images`"]),
    ("classify_image", {"images": ["shapes/red_circle.png"], "labels": "a,b"}, ["`labels`"]),
    ("classify_image", {"images": [5], "labels": ["a"]}, ["`images[0]`"]),
    ("classify_image", {"images": ["x.png"] * 65, "labels": ["a"]}, ["`images`"]),
    ("classify_image", {"images": ["shapes/red_circle.png"], "labels": ["a"] * 1001}, ["`labels`"]),
    ("index_folder", {}, ["`folder` is required"]),
    ("index_folder", {"folder": None}, ["`folder` is required"]),
    ("index_folder", {"folder": 5}, ["`folder`"]),
    ("index_folder", {"folder": "no_such"}, ["no_such"]),
    ("index_folder", {"folder": "shapes/red_circle.png"}, []),
    ("index_folder", {"folder": "shapes", "force": True}, ["unknown argument `force`"]),
]

OUTSIDE = ["/etc", "/", "..", "../outside", "shapes/../../outside", "linked_folder", "/etc/passwd", "../outside/secret.png",
           "link.png", "linked_folder/secret.png", "/proc/self/environ", "no_such/../../outside", "/no/such"]


def tools(tally, setup):
    with Server(setup) as server:
        server.open("2025-11-25")
        for tool, arguments, words in WRONG_ARGUMENTS:
            with tally.case(f"{tool} {json.dumps(arguments)[:70]}"):
                is_fault(server.call(tool, arguments), *words)
        with tally.case("arguments left out"):
            is_fault(server.ask("tools/call", {"name": "index_folder"}), "`folder` is required")
        for path in OUTSIDE:
            for tool, arguments in [("index_folder", {"folder": path}), ("clip_search", {"query": "x", "folder": path}),
                                    ("clip_search", {"image": path})]:
                with tally.case(f"outside the roots: {tool} {path}"):
                    is_fault(server.call(tool, arguments), "outside the allowed roots", "hint: ", "--root")
            with tally.case(f"outside the roots: classify_image {path}"):
                answer = server.call("classify_image", {"images": [path], "labels": ["a", "b"]})
                true("outside the allowed roots" in text(answer), text(answer))
        with tally.case("search before any index"):
            is_fault(server.call("clip_search", {"query": "a red circle"}), "index", "hint: ")
        index_cases(tally, server)
        search_cases(tally, setup, server)
        classify_cases(tally, server)
        advice_cases(tally, server)
    for version in VERSIONS:
        with Server(setup) as server:
            server.open(version)
            for tool, arguments in [("clip_search", {"query": "a red circle"}), ("index_folder", {"folder": "shapes"}),
                                    ("classify_image", {"images": ["shapes/red_circle.png"], "labels": ["red", "blue"]}),
                                    ("route_query", {"query": "how many circles are in shapes/red_circle.png"}),
                                    ("explain_limitation", {"topic": "counting"}),
                                    ("explain_limitation", {"query": "a red circle left of a blue square", "image": "shapes/red_circle.png"})]:
                with tally.case(f"{version}: {tool}"):
                    found = result(server.call(tool, arguments, version))
                    equal(found["isError"], False, str(found)[:300])
                    true(isinstance(found["structuredContent"], dict), "structured content")
                    equal(found.get("resultType"), "complete" if version == NEW_VERSION else None)
                    kinds = {block["type"] for block in found["content"]}
                    true("image" not in kinds, "images unasked")
                    true(version >= "2025-06-18" or "resource_link" not in kinds, "links to an old client")


def index_cases(tally, server):
    with tally.case("index a folder with bad files"):
        found = result(server.call("index_folder", {"folder": "shapes"}))["structuredContent"]
        equal((found["added"], found["skipped"], found["cancelled"]), (12, 2, False))
        true({"broken.png", "empty.jpg"} == {pathlib.Path(bad["path"]).name for bad in found["skipped_examples"]}, found)
    with tally.case("index again adds nothing"):
        found = result(server.call("index_folder", {"folder": "shapes"}))["structuredContent"]
        equal((found["added"], found["updated"], found["unchanged"]), (0, 0, 12))
    with tally.case("progress of an index run"):
        message = server.request("tools/call", {"name": "index_folder", "arguments": {"folder": "many"}}, token="p")
        server.send(message)
        answer, notifications = server.answer(message["id"], 300)
        equal(result(answer)["structuredContent"]["added"], 400)
        steps = [note["params"] for note in notifications if note.get("method") == "notifications/progress"]
        true(steps, "no progress")
        readings = [step["progress"] for step in steps]
        true(all(a < b for a, b in zip(readings, readings[1:])), readings)
        true(all(step["progressToken"] == "p" for step in steps), "token")
        true(all(step["progress"] <= step.get("total", float("inf")) for step in steps), "beyond the total")
        server.silent()
    with tally.case("no progress unasked"):
        message = server.request("tools/call", {"name": "index_folder", "arguments": {"folder": "many"}})
        server.send(message)
        equal(server.answer(message["id"])[1], [])


def search_cases(tally, setup, server):
    for colour in setup.COLOURS:
        for shape in setup.SHAPES:
            with tally.case(f"search a {colour} {shape}"):
                found = result(server.call("clip_search", {"query": f"a {colour} {shape}", "folder": "shapes", "top_k": 3,
                                                           "min_relevance": 0}))["structuredContent"]
                equal(pathlib.Path(found["results"][0]["path"]).name, f"{colour}_{shape}.png")
                relevance = [hit["relevance"] for hit in found["results"]]
                true(relevance == sorted(relevance, reverse=True) and all(0 <= r <= 1 for r in relevance), relevance)
    with tally.case("search by image"):
        found = result(server.call("clip_search", {"image": "shapes/blue_square.png", "folder": "shapes", "top_k": 2,
                                                   "min_relevance": 0}))["structuredContent"]
        true(found["results"], "nothing found")
    with tally.case("text mirror, links, no images"):
        answer = server.call("clip_search", {"query": "a red circle", "folder": "shapes", "min_relevance": 0, "top_k": 12})
        found = result(answer)
        true(text(answer).splitlines()[0].startswith(("1. ", "note: ")), text(answer))
        true(len(text(answer)) < 2000, "a long text")
        links = [block for block in found["content"] if block["type"] == "resource_link"]
        true(0 < len(links) <= 5 and all(link["uri"].startswith("file:///") for link in links), links)
        equal(len(links) + 1, len(found["content"]), "other content")
    with tally.case("thumbnails"):
        import base64
        import io

        from PIL import Image

        found = result(server.call("clip_search", {"query": "a red circle", "folder": "shapes", "min_relevance": 0,
                                                   "top_k": 3, "thumbnails": True}))
        images = [block for block in found["content"] if block["type"] == "image"]
        equal(len(images), 3)
        for block in images:
            equal(block["mimeType"], "image/jpeg")
            image = Image.open(io.BytesIO(base64.b64decode(block["data"])))
            true(image.format == "JPEG" and max(image.size) <= 512, image.size)
        true(images[0]["data"] not in json.dumps(found["structuredContent"]), "base64 in the structured content")
    with tally.case("null counts as left out"):
        answer = server.call("clip_search", {"query": "a red circle", "image": None, "folder": None, "top_k": None})
        equal(result(answer)["isError"], False)
    for query in ["\u8d64\u3044\u8f66", "x" * 10_000, "a\nb\tc", "'; DROP TABLE images; --", "\U0001f600", "   a   "]:
        with tally.case(f"search {query[:20]!r}"):
            result(server.call("clip_search", {"query": query}))


def classify_cases(tally, server):
    with tally.case("classify"):
        found = result(server.call("classify_image", {"images": ["shapes/red_circle.png"], "labels": ["a red circle", "a blue square"]}))
        entry = found["structuredContent"]["images"][0]
        equal(entry["scores"][0]["label"], "a red circle")
        true(abs(sum(score["probability"] for score in entry["scores"])) <= 1.001, entry)
    with tally.case("classify with a bad image among good ones"):
        found = result(server.call("classify_image", {"images": ["shapes/red_circle.png", "shapes/broken.png", "no.png"], "labels": ["red", "blue"]}))
        entries = found["structuredContent"]["images"]
        equal(["error" in entry for entry in entries], [False, True, True])


def advice_cases(tally, server):
    for query, primary in [("how many dogs are here", "counting"), ("a street without cars", "negation"), ("sunset", "semantic_search"),
                           ("is the cup left of the plate", "spatial"), ("¿qué dice el letrero?", "text_reading"), ("犬は何匹いますか", "counting")]:
        with tally.case(f"route {query}"):
            found = result(server.call("route_query", {"query": query}))
            equal(found["structuredContent"]["primary"], primary)
            true(primary in found["content"][0]["text"] and "next: " in found["content"][0]["text"], "text")
    for query in ["", " ", "x" * 100_000, "\u0000", "\ud83e\udd8a" * 5000]:
        with tally.case(f"route {query[:8]!r} of {len(query)}"):
            answer = server.call("route_query", {"query": query})
            equal(answer["result"].get("isError", False), not query.strip())
    for topic in ["counting", "fine_grained", "spatial", "compositional", "negation", "text_reading", "calibration", "domain_shift", "strengths"]:
        with tally.case(f"explain {topic}"):
            equal(result(server.call("explain_limitation", {"topic": topic}))["structuredContent"]["topic"], topic)


# ---- cases: two things in a picture --------------------------------------------------------------------------------

WRONG_PAIRS = [
    # arguments beside the usual ones, words of the fault; None takes an argument away
    ({"image": None}, ["`image` is required"]),
    ({"subject": None}, ["`subject` is required"]),
    ({"object": None}, ["`object` is required"]),
    ({"subject": ""}, ["`subject`", "not empty"]),
    ({"subject": 5}, ["`subject`"]),
    ({"object": ["dog"]}, ["`object`"]),
    ({"threshold": 2}, ["`threshold`"]),
    ({"annotate": "yes"}, ["`annotate`"]),
    ({"target": "dog"}, ["unknown argument `target`"]),
    ({"relation": "chasing"}, ["`relation` must be one of"]),
]


def relating(tally, setup):
    """`spatial_relation`: its faults everywhere, its answers with --detector and --photo."""
    usual = {"image": "shapes/red_circle.png", "subject": "person", "object": "dog"}
    with Server(setup) as server:
        server.open("2025-11-25")
        for more, words in WRONG_PAIRS:
            with tally.case(f"spatial_relation {json.dumps(more)}"):
                given = {name: value for name, value in {**usual, **more}.items() if value is not None}
                is_fault(server.call("spatial_relation", given), *words)
        with tally.case("route_query names it, and its arguments fit"):
            found = result(server.call("route_query", {"query": "is the dog left of the car in shapes/red_circle.png?"}))
            next_call = found["structuredContent"]["next"]
            equal(next_call["tool"], "spatial_relation")
            true("available" not in next_call, str(next_call))
            true("argument" not in text(server.call("spatial_relation", next_call["arguments"])), "its arguments")
        if setup.detector is None:
            with tally.case("no detector: the next step"):
                is_fault(server.call("spatial_relation", usual), "hint: ")
            return
        for path in OUTSIDE:
            with tally.case(f"outside the roots: spatial_relation {path}"):
                is_fault(server.call("spatial_relation", {**usual, "image": path}), "outside the allowed roots")
        for path in ["shapes/broken.png", "shapes/empty.jpg", "shapes/notes.txt", "shapes", "shapes/no_such.png"]:
            with tally.case(f"unreadable: spatial_relation {path}"):
                is_fault(server.call("spatial_relation", {**usual, "image": path}), path.rsplit("/")[-1])
        for words in ["unicorn", "\u0000", "person and dog", "x" * 5000]:
            with tally.case(f"no such thing: {words[:20]!r}"):
                is_fault(server.call("spatial_relation", {**usual, "subject": words}))
        with tally.case("nothing there: cannot decide, and no error"):
            found = result(server.call("spatial_relation", usual))
            equal((found["isError"], found["structuredContent"]["relations"]), (False, []))
            true(found["structuredContent"]["answer"].startswith("cannot decide"), str(found)[:300])
        if setup.photo is not None:
            photo_cases(tally, setup, server)


def photo_cases(tally, setup, server):
    """A photo and its mirror image. `--photo FILE:SUBJECT:OBJECT`."""
    from PIL import Image, ImageOps

    file, subject, other = setup.photo.rsplit(":", 2)
    plain = Image.open(file).convert("RGB")
    plain.save(setup.root / "plain.png")
    ImageOps.mirror(plain).save(setup.root / "mirrored.png")
    swap = {"left of": "right of", "right of": "left of"}
    ask = lambda name, **more: result(server.call("spatial_relation", {"image": name, "subject": subject, "object": other, **more}))

    def rows(found, mirrored):
        turn = lambda b: [plain.width - b[2], b[1], plain.width - b[0], b[3]] if mirrored else b
        return sorted((swap.get(r["relation"], r["relation"]) if mirrored else r["relation"], r["confidence"],
                       turn(r["subject_box"]), turn(r["object_box"])) for r in found["structuredContent"]["relations"])

    with tally.case("a mirrored photo swaps left and right exactly"):
        first, second = rows(ask("plain.png"), True), rows(ask("mirrored.png"), False)
        true(first, "no relation")
        equal(first, second)
    with tally.case("a repeated question is instant"):
        started = time.monotonic()
        ask("plain.png", relation="left of")
        true(time.monotonic() - started < 0.5, f"{time.monotonic() - started:.2f} s")
    with tally.case("the picture comes on request, at most 1024 pixels"):
        import base64
        import io

        found = ask("plain.png", annotate=True)
        block = found["content"][1]
        equal((block["type"], len(found["content"]), len(ask("plain.png")["content"])), ("image", 2, 1))
        true(max(Image.open(io.BytesIO(base64.b64decode(block["data"]))).size) <= 1024, "size")
    with tally.case("a cancelled question ends, and the next one is answered"):
        ImageOps.flip(plain).resize((2000, 1500)).save(setup.root / "fresh.png")
        message = server.request("tools/call", {"name": "spatial_relation", "arguments": {
            "image": "fresh.png", "subject": subject, "object": other}})
        server.send(message)
        server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": message["id"]}})
        result(server.ask("ping"))
        true(ask("plain.png")["structuredContent"]["relations"], "relations")


def composing(tally, setup):
    """`match_captions`, and searches whose hits are checked."""
    usual = {"image": "shapes/red_circle.png", "captions": ["a red circle", "a blue circle"]}
    with Server(setup) as server:
        server.open("2025-11-25")
        for more, words in [({"image": None}, ["`image` is required"]), ({"captions": None}, ["`captions` is required"]),
                            ({"captions": []}, ["`captions`"]), ({"captions": [" "]}, ["empty"]), ({"captions": "a dog"}, ["`captions`"]),
                            ({"captions": ["a"] * 65}, ["`captions`"]), ({"captions": ["a dog " * 300]}, ["more than 1000"]),
                            ({"captions": [5]}, ["`captions"]), ({"caption": "a dog"}, ["unknown argument `caption`"])]:
            with tally.case(f"match_captions {json.dumps(more)[:80]}"):
                given = {name: value for name, value in {**usual, **more}.items() if value is not None}
                is_fault(server.call("match_captions", given), *words)
        for path in OUTSIDE:
            with tally.case(f"outside the roots: match_captions {path}"):
                is_fault(server.call("match_captions", {**usual, "image": path}), "outside the allowed roots")
        for path in ["shapes/broken.png", "shapes/empty.jpg", "shapes/notes.txt", "shapes", "shapes/no_such.png"]:
            with tally.case(f"unreadable: match_captions {path}"):
                is_fault(server.call("match_captions", {**usual, "image": path}), path.rsplit("/")[-1])
        with tally.case("captions are answered with or without a detector"):
            found = result(server.call("match_captions", usual))
            equal(found["isError"], False)
            answer = found["structuredContent"]
            equal([one["text"] for one in answer["captions"]], usual["captions"])
            true(all(0 <= one["score"] <= 1 and one["phrases"] for one in answer["captions"]), str(answer)[:400])
            equal(answer["captions"][answer["best_index"]]["text"], answer["best"])
        for odd in ["\u0000", "\u202e", "no", "one one one", "the the of of", "\U0001f98a" * 200]:
            with tally.case(f"an odd caption: {odd[:12]!r}"):
                equal(result(server.call("match_captions", {**usual, "captions": [odd, "a circle"]}))["isError"], False)
        result(server.call("index_folder", {"folder": "shapes"}))
        for query in ["two red circles", "a circle without a square", "a circle left of a square", "a red circle and a blue square"]:
            with tally.case(f"a search that CLIP cannot do is checked or says why not: {query}"):
                found = result(server.call("clip_search", {"query": query, "min_relevance": 0}))["structuredContent"]
                true(found["results"] and found["advice"]["clip_suitable"] is False, str(found)[:300])
                note = found["advice"]["note"]
                true("were checked with" in note or "not verified, since" in note, note)
                plain = result(server.call("clip_search", {"query": query, "min_relevance": 0, "verify": False}))["structuredContent"]
                true(all(hit["checks"] == [] for hit in plain["results"]), str(plain)[:300])
        with tally.case("a cancelled check ends, and the next question is answered"):
            message = server.request("tools/call", {"name": "clip_search", "arguments": {"query": "three circles", "min_relevance": 0}})
            server.send(message)
            server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": message["id"]}})
            result(server.ask("ping"))
            equal(result(server.call("match_captions", usual))["isError"], False)


# ---- cases: concurrency, cancellation, signals, streams -------------------------------------------------------------


def resident_mib(pid, key="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no {key}")


def fresh_many(setup, name):
    """A folder of images that no index has seen, so that indexing it takes a while."""
    folder = setup.root / name
    folder.mkdir()
    for number in range(1500):
        colour = list(setup.COLOURS)[number % 4]
        setup.draw(folder / f"{number:04}.png", colour, "square", f"{name}{number}")
    return name


def behaviour(tally, setup):
    with tally.case("the first answer comes within 50 ms and under 30 MB"):
        times = []
        for _ in range(10):
            with Server(setup) as server:
                server.open(NEW_VERSION)
                times.append(time.monotonic() - server.started)
                true(resident_mib(server.process.pid) < 30, "resident memory")
        true(sorted(times)[len(times) // 2] < 0.05, times)
    with tally.case("50 calls at once"), Server(setup) as server:
        server.open("2025-11-25")
        messages = [server.request("tools/call", {"name": "classify_image", "arguments": {
            "images": ["shapes/red_circle.png"], "labels": ["red", f"label {number}"]}}) for number in range(50)]
        for message in messages:
            server.send(message)
        answers = [server.next() for _ in messages]
        equal(sorted(answer["id"] for answer in answers), [message["id"] for message in messages])
        true(all(result(answer)["isError"] is False for answer in answers), "an error among them")
    with tally.case("lists and status while an index run is going"), Server(setup) as server:
        server.open("2025-11-25")
        message = server.request("tools/call", {"name": "index_folder", "arguments": {"folder": fresh_many(setup, "busy")}})
        server.send(message)
        for method, params in [("tools/list", None), ("ping", None), ("resources/read", {"uri": "clip-aware://index/status"})]:
            start = time.monotonic()
            result(server.ask(method, params))
            true(time.monotonic() - start < 2, f"{method} waits")
        server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": message["id"]}})
    with tally.case("cancel an index run, then go on"), Server(setup) as server:
        server.open("2025-11-25")
        folder = fresh_many(setup, "cancelled")
        message = server.request("tools/call", {"name": "index_folder", "arguments": {"folder": folder}}, token=1)
        server.send(message)
        while server.next()["params"]["progress"] < 1:
            pass
        server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": message["id"]}})
        start = time.monotonic()
        follower = server.request("tools/call", {"name": "index_folder", "arguments": {"folder": "shapes"}})
        server.send(follower)
        server.answer(follower["id"])
        true(time.monotonic() - start < 2, "the queue was not freed within a second or two")
        found = result(server.call("index_folder", {"folder": folder}, timeout=600))["structuredContent"]
        true(found["unchanged"] > 0 and found["unchanged"] + found["added"] == 1500, found)
    with tally.case("cancel a waiting call"), Server(setup) as server:
        server.open("2025-11-25")
        running = server.request("tools/call", {"name": "index_folder", "arguments": {"folder": fresh_many(setup, "waiting")}})
        waiting = server.request("tools/call", {"name": "clip_search", "arguments": {"query": "x"}})
        for message in [running, waiting]:
            server.send(message)
        for message in [waiting, running]:
            server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": message["id"]}})
        result(server.call("classify_image", {"images": ["shapes/red_circle.png"], "labels": ["red"]}))
        server.silent()
    for number, name in [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")]:
        with tally.case(f"{name} before initialize"), Server(setup) as server:
            time.sleep(0.2)
            server.process.send_signal(number)
            server.ends(1.0)
        with tally.case(f"{name} after initialize"), Server(setup) as server:
            server.open("2025-11-25")
            server.process.send_signal(number)
            server.ends(1.0)
        with tally.case(f"{name} during an index run keeps what is done"), Server(setup) as server:
            server.open("2025-11-25")
            folder = fresh_many(setup, name)
            message = server.request("tools/call", {"name": "index_folder", "arguments": {"folder": folder}}, token=1)
            server.send(message)
            while server.next()["params"]["progress"] < 1:
                pass
            server.process.send_signal(number)
            server.ends(3.0)
            with Server(setup) as second:
                second.open("2025-11-25")
                found = result(second.call("index_folder", {"folder": folder}, timeout=600))["structuredContent"]
                true(found["unchanged"] > 0 and found["unchanged"] + found["added"] == 1500, found)
    for opened in [False, True]:
        with tally.case(f"end of input, opened: {opened}"), Server(setup) as server:
            if opened:
                server.open("2025-11-25")
            server.process.stdin.close()
            server.ends(1.0)
    with tally.case("requests in a file are all answered"), Server(setup) as server:
        for message in [server.request("server/discover", {}, NEW_VERSION), server.request("tools/list", {}, NEW_VERSION),
                        server.request("tools/call", {"name": "classify_image", "arguments": {
                            "images": ["shapes/red_circle.png"], "labels": ["red", "blue"]}}, NEW_VERSION)]:
            server.send(message)
        server.process.stdin.close()
        equal(sorted(server.next()["id"] for _ in range(3)), [1, 2, 3])
        server.ends(2.0)
    with tally.case("a client that never reads stderr"), Server(
            setup, stderr=subprocess.PIPE, environment={"CLIP_AWARE_LOG": "trace", "RUST_LOG": "trace"}) as server:
        server.open("2025-11-25")
        for _ in range(300):
            result(server.ask("ping", {"x": "y" * 2000}))
    with tally.case("a client that never reads stdout"), Server(setup, read=False) as server:
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "x" * 2000}).encode() + b"\n"
        os.set_blocking(server.process.stdin.fileno(), False)
        deadline, written = time.monotonic() + 3, 0
        while time.monotonic() < deadline:
            try:
                written += os.write(server.process.stdin.fileno(), line * 20)
            except BlockingIOError:
                time.sleep(0.01)
        true(resident_mib(server.process.pid) < 80, f"{resident_mib(server.process.pid)} MiB after {written} bytes")
        server.process.send_signal(signal.SIGTERM)
        server.ends(5.0)
    with tally.case("a client that goes away"), Server(setup, read=False) as server:
        ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
        server.write(ping)
        true(server.process.stdout.readline(), "an answer")
        server.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            for _ in range(50):
                server.write(ping)
                time.sleep(0.02)
        server.ends(2.0)
    with tally.case("an id in flight"), Server(setup) as server:
        server.open("2025-11-25")
        message = server.request("tools/call", {"name": "index_folder", "arguments": {"folder": fresh_many(setup, "twice")}}, identifier="same")
        server.send(message)
        server.send(server.request("tools/list", identifier="same"))
        equal(code(server.answer("same")[0]), -32600)
    with tally.case("1000 requests in a row"), Server(setup) as server:
        server.open("2025-11-25")
        for number in range(1000):
            server.send(server.request(["tools/list", "ping", "prompts/list"][number % 3], identifier=f"r{number}"))
        equal(len({server.next()["id"] for _ in range(1000)}), 1000)


# ---- the official client -------------------------------------------------------------------------------------------


def official_client(tally, setup):
    """The PyPI client validates every message against the protocol's models and structured content against its schema."""
    try:
        from mcp import Client, StdioServerParameters
    except ImportError as error:
        print(f"skipped: the package mcp 2.3.0 is not installed ({error})")
        return
    parameters = StdioServerParameters(command=setup.command[0], args=setup.command[1:], env={"CLIP_AWARE_OFFLINE": "1"})

    async def drive(mode):
        async with Client(parameters, mode=mode, read_timeout_seconds=PATIENCE_S) as client:
            expected = "2025-11-25" if mode == "legacy" else NEW_VERSION
            with tally.case(f"client {mode}: version"):
                equal(client.protocol_version, expected)
                # A client that pins the version asks for nothing, so it knows no instructions.
                true(client.instructions or mode == NEW_VERSION, "instructions")
            with tally.case(f"client {mode}: lists"):
                true(set(TOOLS) <= {tool.name for tool in (await client.list_tools()).tools}, "tools")
                true((await client.list_resources()).resources, "resources")
                true((await client.list_resource_templates()).resource_templates, "templates")
                equal([prompt.name for prompt in (await client.list_prompts()).prompts], ["plan_vision_request", "explain_clip_limit"])
            with tally.case(f"client {mode}: prompt"):
                prompt = await client.get_prompt("plan_vision_request", {"request": "count"})
                true("count" in prompt.messages[0].content.text, "text")
            with tally.case(f"client {mode}: resource"):
                contents = (await client.read_resource("clip-aware://index/status")).contents
                json.loads(contents[0].text)
            readings = []

            async def progress(reading, total, message):
                readings.append((reading, total, message))

            with tally.case(f"client {mode}: index with progress"):
                folder = fresh_many(setup, f"client_{mode}")
                found = await client.call_tool("index_folder", {"folder": folder}, 600, progress)
                equal(found.structured_content["added"], 1500)
                true(readings and readings[-1][0] <= (readings[-1][1] or float("inf")), readings[-3:])
            for tool, arguments in [("clip_search", {"query": "a red circle", "thumbnails": True, "min_relevance": 0}),
                                    ("classify_image", {"images": ["shapes/red_circle.png"], "labels": ["red", "blue"]}),
                                    ("match_captions", {"image": "shapes/red_circle.png", "captions": ["a red circle", "two circles"]})]:
                with tally.case(f"client {mode}: {tool}"):
                    found = await client.call_tool(tool, arguments)
                    true(not found.is_error and found.structured_content, str(found)[:300])
            with tally.case(f"client {mode}: a fault is a result"):
                found = await client.call_tool("clip_search", {"nope": 1})
                true(found.is_error and "hint: " in found.content[0].text, str(found)[:300])
            with tally.case(f"client {mode}: calls at once"):
                calls = [client.call_tool("classify_image", {"images": ["shapes/red_circle.png"], "labels": ["red", str(n)]}) for n in range(20)]
                true(all(not found.is_error for found in await asyncio.gather(*calls)), "an error among them")

    for mode in ["legacy", "auto", NEW_VERSION]:
        try:
            asyncio.run(asyncio.wait_for(drive(mode), 900))
        except BaseException as error:  # task groups wrap what went wrong
            with tally.case(f"client {mode}: the connection"):
                raise AssertionError(repr(error)) from error


# ---- main ----------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--root", type=pathlib.Path, help="where to make the temporary folder")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--detector", type=pathlib.Path, help="weights, for the answers of spatial_relation")
    parser.add_argument("--photo", help="FILE:SUBJECT:OBJECT for them")
    parser.add_argument("--only", help="run only the groups whose name holds this word")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    tally = Tally(options.only, options.verbose)
    groups = [lifecycle, malformed, catalogue, tools, relating, composing, behaviour, official_client]
    with tempfile.TemporaryDirectory(dir=options.root, prefix="mcp_blackbox_") as folder:
        detector = options.detector and options.detector.resolve()
        setup = Setup(options.binary.resolve(), options.model, pathlib.Path(folder).resolve(), detector, options.photo)
        for group in groups:
            if tally.wants(group.__name__):
                try:
                    group(tally, setup)
                except Exception as error:  # outside of a case: an unusable server
                    tally.failed += 1
                    print(f"FAILED {group.__name__}: {type(error).__name__}: {error}", flush=True)
    print(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
