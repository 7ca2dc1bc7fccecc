"""A FHIR server that takes transaction bundles, with state and faults.

    fhir_server.py --port N --folder DIR [--answers 503,200] [--token SECRET]

Checks each bundle (tests/peers/check_fhir.py), applies its conditions and writes DIR/state.json:
every resource by type and condition with the number of its version, and how many bundles came.
Answers in turn as listed, every further one with the last: 200, or another status with an
OperationOutcome that repeats the patient's identifier; `html` is a page of a proxy.
"""

import argparse
import http.server
import json
import pathlib
import re

import check_fhir


class State:
    def __init__(self, folder, answers, token):
        self.folder, self.answers, self.token = folder, answers, token
        self.resources, self.bundles = {}, 0

    def apply(self, bundle):
        """The transaction response. A resource whose content is the same keeps its version."""
        ids, plan = {}, []
        for entry in bundle["entry"]:
            resource, request = entry["resource"], entry["request"]
            kind = resource["resourceType"]
            condition = request.get("ifNoneExist") or request["url"].partition("?")[2]
            known = self.resources.setdefault(kind, {})
            number = list(known).index(condition) if condition in known else len(known)
            if condition not in known:
                known[condition] = None
            ids[entry["fullUrl"]] = f"{kind}/{number + 1}"
            plan.append((kind, condition, request["method"], resource))
        answers = []
        for kind, condition, method, resource in plan:
            text = json.dumps(resource, sort_keys=True)
            for url, own in ids.items():
                text = text.replace(url, own)
            before = self.resources[kind][condition]
            if before is None:
                self.resources[kind][condition] = {"version": 1, "resource": json.loads(text)}
            elif method == "PUT" and before["resource"] != json.loads(text):
                before["version"] += 1
                before["resource"] = json.loads(text)
            answers.append({"response": {"status": "201 Created" if before is None else "200 OK"}})
        return {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}

    def answer(self, headers, body):
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return 401, "application/fhir+json", outcome("login", "who are you?")
        answer = self.answers[min(self.bundles, len(self.answers) - 1)]
        self.bundles += 1
        if answer == "html":
            return 200, "text/html", b"<html>sign in</html>"
        if answer != "200":
            named = re.search(r'"value":"(PID-[^"]+)"', body.decode())
            words = f"cannot use {named.group(1) if named else 'it'}"
            return int(answer), "application/fhir+json", outcome("processing", words)
        bundle = json.loads(body)
        faults = list(check_fhir.faults(bundle))
        if faults:
            return 422, "application/fhir+json", outcome("invalid", "; ".join(faults))
        said = json.dumps(self.apply(bundle)).encode()
        return 200, "application/fhir+json", said

    def save(self):
        part = self.folder / "state.part"
        part.write_text(json.dumps({"bundles": self.bundles, "resources": self.resources}))
        part.rename(self.folder / "state.json")


def outcome(code, words):
    issue = {"severity": "error", "code": code, "diagnostics": words}
    return json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--answers", default="200")
    parser.add_argument("--token", default="")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    state = State(args.folder, args.answers.split(","), args.token)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, kind, said = state.answer(self.headers, body)
            state.save()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_):
            pass

    http.server.HTTPServer(("127.0.0.1", args.port), Handler).serve_forever()


main()
