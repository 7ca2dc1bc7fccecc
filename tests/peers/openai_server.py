"""A small OpenAI-compatible server: openai_server.py PORT FOLDER MODE

Keeps every request body in FOLDER as <n>.json. MODE says how it answers:
  read       a reading of a chest X-ray with one finding, in prose and a code fence
  prose      words that are no reading, each time
  busy-once  503 with Retry-After at first, then a reading
  401, 500…  this status, each time
  clear      a reading that is sure of nothing being there
  unsure     the reading with a confidence of 0.4
"""

import http.server
import json
import pathlib
import sys

READING = {
    "findings": [
        {
            "key": "pneumothorax",
            "name": "",
            "presence": "present",
            "probability": 0.91,
            "laterality": "left",
            "severity": "moderate",
            "site": "",
            "description": "Visceral pleural line at the left apex.",
            "pictures": [1],
            "boxes": [{"picture": 1, "x0": 0.55, "y0": 0.1, "x1": 0.8, "y1": 0.35}],
            "measurements": [],
            "differential": [],
            "recommendation": "Immediate clinical correlation.",
            "urgency": "urgent",
        }
    ],
    "impression": "Left pneumothorax.",
    "recommendation": "Immediate clinical correlation.",
    "image_quality": {"usable": "good", "remarks": ""},
    "urgency": "urgent",
    "confidence": 0.9,
}


class Handler(http.server.BaseHTTPRequestHandler):
    count = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Handler.count += 1
        folder, mode = pathlib.Path(sys.argv[2]), sys.argv[3]
        head = json.dumps({"path": self.path, "headers": dict(self.headers)})
        (folder / f"{Handler.count}.json").write_bytes(head.encode() + b"\n" + body)
        if mode.isdigit() or (mode == "busy-once" and Handler.count == 1):
            self.send_response(int(mode) if mode.isdigit() else 503)
            if mode == "busy-once":
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        schema = json.loads(body)["response_format"]["json_schema"]["schema"]
        keys = schema["properties"]["findings"]["items"]["properties"]["key"]["enum"]
        absent = {"presence": "absent", "probability": 0.01, "laterality": "none", "severity": "none", "description": "",
                  "pictures": [], "boxes": [], "recommendation": "", "urgency": "routine"}
        findings = [READING["findings"][0] | absent | {"key": key} for key in keys if key != "other"]
        clear = {"findings": findings, "impression": "Clear.", "recommendation": "", "urgency": "routine", "confidence": 0.95}
        reading = READING | {"clear": clear, "unsure": {"confidence": 0.4}}.get(mode, {})
        text = "I cannot say anything about this."
        if mode != "prose":
            text = f"Here is my reading:\n```json\n{json.dumps(reading)}\n```\nKind regards"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer = {"id": "1", "object": "chat.completion", "model": "fixture-vision-1", "choices": [choice]}
        answer["usage"] = {"prompt_tokens": 900, "completion_tokens": 200, "total_tokens": 1100}
        out = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
