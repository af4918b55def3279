#!/usr/bin/env python3
"""A private provider registry's API, as far as publishing goes, on 127.0.0.1.

    registry.py

Prints its address, then a line of JSON for each request: method, path, what was sent (an upload as its SHA-256).
Documents: https://developer.hashicorp.com/terraform/cloud-docs/api-docs/private-registry/provider-versions-platforms
"""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROVIDER = "/api/v2/organizations/example/registry-providers"


class Registry(BaseHTTPRequestHandler):
    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def note(self, sent: object) -> None:
        print(json.dumps({"method": self.command, "path": self.path, "sent": sent}), flush=True)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def do_GET(self) -> None:
        self.note(None)
        self.answer(404, {"errors": [{"status": "404", "title": "not found"}]})

    def do_PUT(self) -> None:
        self.note(hashlib.sha256(self.body()).hexdigest())
        self.answer(200, {})

    def do_POST(self) -> None:
        sent = json.loads(self.body())
        self.note(sent)
        links = {
            "registry-providers": [],
            "registry-provider-versions": ["shasums-upload", "shasums-sig-upload"],
            "registry-provider-version-platforms": ["provider-binary-upload"],
        }.get(sent["data"]["type"])
        if links is None or not self.path.startswith(PROVIDER) or self.headers["authorization"] != "Bearer a-token":
            self.answer(422, {"errors": [{"status": "422", "title": "unprocessable"}]})
            return
        here = f"http://127.0.0.1:{self.server.server_port}/upload/"
        self.answer(201, {"data": {"links": {link: here + link for link in links}}})

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
