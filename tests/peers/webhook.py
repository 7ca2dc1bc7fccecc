"""A receiver of webhooks: webhook.py PORT FOLDER SECRET [ANSWER ...]

Checks each signature with the reference library of Standard Webhooks and keeps each request in FOLDER as <n>.json.
ANSWER: what the first requests are answered, in turn, before 200: a status, `hang`, `drop`, `redirect`.
"""

import http.server
import json
import pathlib
import sys
import threading
import time

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

PORT, FOLDER, SECRET, *ANSWERS = sys.argv[1:]
LOCK = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    count = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            Webhook(SECRET).verify(body.decode(), headers)
            signed = True
        except WebhookVerificationError:
            signed = False
        with LOCK:
            Handler.count += 1
            number = Handler.count
        answer = ANSWERS[number - 1] if number <= len(ANSWERS) else "200"
        kept = {"headers": headers, "body": json.loads(body), "signed": signed, "answer": answer, "path": self.path}
        (pathlib.Path(FOLDER) / f"{number:03}.json").write_text(json.dumps(kept))
        if answer == "hang":
            time.sleep(3600)
        if answer == "drop":
            self.connection.close()
            return
        status = 302 if answer == "redirect" else int(answer)
        out = b"told" if status == 200 else b"not now"
        self.send_response(status)
        if answer == "redirect":
            self.send_header("Location", f"http://127.0.0.1:{PORT}/elsewhere")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Handler).serve_forever()
