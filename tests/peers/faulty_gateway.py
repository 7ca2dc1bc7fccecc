"""A gateway with one fault: faulty_gateway.py PORT FOLDER FAULT [CERTIFICATE KEY]

Appends a line to FOLDER/requests.txt for each request: its path and the length of its body. FAULT:
  a number   this status and no body
  429-wait   429 with Retry-After: 1
  413-once   413 for a body of more than 60,000 bytes, else a reading
  drip       one byte a second
  hang       nothing at all
  reset      the connection is reset after the head
  closed     the connection is closed before the head
  short      fewer bytes than Content-Length says
  cut        a reading that was cut off, finish_reason length
  huge       a body without end
  bomb       256 MiB of zeros, gzip
  redirect   302 to /elsewhere on another address of this machine
  latin, utf16, html, empty, null, list  such a body, 200
  two        two readings
  types      a reading with a word for a probability
  extra      a reading with a key that nobody asked for
  refusal, filter, tool, choiceless  an answer that is no reading
  other-language  a reading in French
  tls        as read, over TLS with the certificate
"""

import gzip
import http.server
import json
import pathlib
import ssl
import sys
import time

PORT, FOLDER, FAULT = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
FINDING = {"name": "", "presence": "absent", "probability": 0.02, "laterality": "none", "severity": "none", "site": "",
           "description": "", "pictures": [], "boxes": [], "measurements": [], "differential": [], "recommendation": "",
           "urgency": "routine"}


def reading(keys):
    findings = [FINDING | {"key": key} for key in keys if key != "other"]
    return {"findings": findings, "impression": "Nothing of that is seen.", "recommendation": "",
            "image_quality": {"usable": "good", "remarks": ""}, "urgency": "routine", "confidence": 0.95}


def completion(text, finish="stop", **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text} | message}
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    return {"id": "1", "object": "chat.completion", "model": "faulty", "choices": [choice], "usage": usage}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.body(b"{}")

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        with (FOLDER / "requests.txt").open("a") as log:
            log.write(f"{self.path} {length}\n")
        schema = json.loads(body)["response_format"]["json_schema"]["schema"]
        good = reading(schema["properties"]["findings"]["items"]["properties"]["key"]["enum"])
        text = json.dumps(good)
        if FAULT.isdigit():
            self.status(int(FAULT))
        elif FAULT == "429-wait":
            self.status(429, {"Retry-After": "1"})
        elif FAULT == "413-once":
            self.status(413) if length > 60000 else self.say(completion(text))
        elif FAULT == "redirect":
            self.status(302, {"Location": f"http://127.0.0.2:{PORT}/elsewhere"})
        elif FAULT == "hang":
            time.sleep(600)
        elif FAULT == "closed":
            self.close_connection = True
        elif FAULT == "reset":
            self.head(1000)
            import socket
            import struct
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif FAULT == "short":
            self.head(100000)
            self.wfile.write(json.dumps(completion(text)).encode()[:200])
            self.close_connection = True
        elif FAULT == "drip":
            whole = json.dumps(completion(text)).encode()
            self.head(len(whole))
            for at in range(len(whole)):
                self.wfile.write(whole[at : at + 1])
                self.wfile.flush()
                time.sleep(1)
        elif FAULT == "huge":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            while True:
                self.wfile.write(b" " * 65536)
        elif FAULT == "bomb":
            self.body(gzip.compress(bytes(256 << 20), 1), {"Content-Encoding": "gzip"})
        elif FAULT == "latin":
            self.body(json.dumps(completion("caf@")).encode().replace(b"@", b"\xe9"))
        elif FAULT == "utf16":
            self.body(json.dumps(completion(text)).encode("utf-16"))
        elif FAULT == "html":
            self.body(b"<html>Please log in</html>", {"Content-Type": "text/html"})
        elif FAULT in ("empty", "null", "list"):
            self.body({"empty": b"", "null": b"null", "list": b"[]"}[FAULT])
        elif FAULT == "cut":
            self.say(completion(text[: len(text) // 2], "length"))
        elif FAULT == "two":
            other = json.dumps(good | {"impression": "Another patient."})
            self.say(completion(text + "\n" + other))
        elif FAULT == "types":
            good["findings"][0]["probability"] = "high"
            self.say(completion(json.dumps(good)))
        elif FAULT == "extra":
            self.say(completion(json.dumps(good | {"patient_name": "Somebody"})))
        elif FAULT == "refusal":
            self.say(completion(None, refusal="I cannot help with that."))
        elif FAULT == "filter":
            self.say(completion(None, "content_filter"))
        elif FAULT == "tool":
            call = {"id": "1", "type": "function", "function": {"name": "shell", "arguments": "{}"}}
            self.say(completion(None, "tool_calls", tool_calls=[call]))
        elif FAULT == "choiceless":
            self.say(completion(text) | {"choices": []})
        elif FAULT == "other-language":
            words = "Les poumons sont clairs et il n'y a pas de signe de pneumonie dans les deux champs pulmonaires."
            self.say(completion(json.dumps(good | {"impression": words, "recommendation": words})))
        else:
            self.say(completion(text))

    def say(self, answer):
        self.body(json.dumps(answer).encode())

    def body(self, body, headers={}):
        self.head(len(body), headers)
        self.wfile.write(body)

    def head(self, length, headers={}):
        self.send_response(200)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def status(self, status, headers={}):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("0.0.0.0", PORT), Handler)
if FAULT == "tls":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
