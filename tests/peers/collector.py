"""A collector of traces (OTLP over HTTP, protobuf): writes each span as one line of JSON.

Usage: collector.py PORT FILE [TOKEN]. Without TOKEN it takes spans of everyone.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


def plain(attributes):
    values = {}
    for one in attributes:
        values[one.key] = getattr(one.value, one.value.WhichOneof("value"))
    return values


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        token = sys.argv[3] if len(sys.argv) > 3 else None
        if token and self.headers["Authorization"] != f"Bearer {token}":
            return self.answer(401, b"")
        if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
            return self.answer(404, b"")
        request = service.ExportTraceServiceRequest()
        request.ParseFromString(body)
        with open(sys.argv[2], "a", encoding="utf-8") as file:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        line = {
                            "resource": plain(resource.resource.attributes),
                            "scope": scope.scope.name,
                            "trace": span.trace_id.hex(),
                            "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "name": span.name,
                            "kind": Span.SpanKind.Name(span.kind),
                            "start": span.start_time_unix_nano,
                            "end": span.end_time_unix_nano,
                            "events": [event.name for event in span.events],
                            "error": span.status.code == Status.STATUS_CODE_ERROR,
                            "message": span.status.message,
                            "attributes": plain(span.attributes),
                        }
                        file.write(json.dumps(line) + "\n")
        self.answer(200, service.ExportTraceServiceResponse().SerializeToString())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), Collector).serve_forever()
