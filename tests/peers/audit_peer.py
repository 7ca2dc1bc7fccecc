"""An audit record repository: a syslog server that takes DICOM audit messages (PS3.15 A.5) and is strict.

    audit_peer.py PORT OUT [udp | CERTIFICATE KEY CA]

With a certificate over TLS (RFC 5425) and only from clients that CA knows, else over TCP; octet counting
(RFC 6587 3.4.1) in both. Or one message in each datagram (RFC 5426). For each message one line of JSON in OUT: what it says, or what is wrong with it.
The rules are those of the schema in PS3.15 A.5.1, written down again here: order of elements, required
attributes, closed lists of values, and which codes belong to which event (A.5.3, PS3.16 CID 400 to 404).
"""
import base64
import datetime
import json
import re
import socketserver
import ssl
import sys
import xml.etree.ElementTree as ET

HEAD = re.compile(
    r"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z) ([!-~]{1,255}) ([!-~]{1,48}) "
    r"([!-~]{1,128}) ([!-~]{1,32}) (-|\[.*?\]) "
)
EVENTS = {
    "110100": ("Application Activity", "E", {"110120", "110121"}),
    "110101": ("Audit Log Used", "R", None),
    "110103": ("DICOM Instances Accessed", "CRUD", None),
    "110104": ("DICOM Instances Transferred", "CRU", None),
    "110105": ("DICOM Study Deleted", "D", None),
    "110106": ("Export", "R", None),
    "110112": ("Query", "E", None),
    "110113": ("Security Alert", "E", {"110126", "110127", "110128", "110129", "110130", "110131"}),
    "110114": ("User Authentication", "E", {"110122", "110123"}),
}
ROLES = {"110150", "110151", "110152", "110153", "110154", "110155"}
# What the objects of an event have to be (A.5.3).
OBJECTS = {
    "110101": {"12"},
    "110103": {"110180"},
    "110104": {"110180"},
    "110105": {"110180"},
    "110106": {"110180"},
    "110112": {"110181"},
}


def need(holds, what):
    if not holds:
        raise ValueError(what)


def attributes(element, required, optional=()):
    names = set(element.attrib)
    need(set(required) <= names, f"{element.tag} lacks {set(required) - names}")
    need(names <= set(required) | set(optional), f"{element.tag} has {names - set(required) - set(optional)}")
    need(all(element.attrib.values()), f"{element.tag} has an empty attribute")


def code(element):
    attributes(element, ["csd-code", "codeSystemName", "originalText"], ["displayName"])
    return element.get("csd-code")


def order(element, names):
    """Children only of these names, in this order."""
    places = []
    for child in element:
        need(child.tag in names, f"{element.tag} has {child.tag}")
        places.append(names.index(child.tag))
    need(places == sorted(places), f"the children of {element.tag} are out of order")


def check_event(event):
    attributes(event, ["EventDateTime", "EventOutcomeIndicator"], ["EventActionCode"])
    order(event, ["EventID", "EventTypeCode", "EventOutcomeDescription"])
    datetime.datetime.fromisoformat(event.get("EventDateTime").replace("Z", "+00:00"))
    need(event.get("EventOutcomeIndicator") in {"0", "4", "8", "12"}, "an unknown outcome")
    ids = event.findall("EventID")
    need(len(ids) == 1, "not one EventID")
    event_id = code(ids[0])
    meaning, actions, types = EVENTS[event_id]
    need(ids[0].get("originalText") == meaning, f"{event_id} does not mean that")
    need(event.get("EventActionCode") in list(actions), f"{event_id} with that action")
    found = {code(one) for one in event.findall("EventTypeCode")}
    need(types is None or (found and found <= types), f"{event_id} with the types {found}")
    return event_id, sorted(found)


def check_participant(one):
    attributes(
        one,
        ["UserID", "UserIsRequestor"],
        ["AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"],
    )
    order(one, ["RoleIDCode", "MediaIdentifier"])
    need(one.get("UserIsRequestor") in {"true", "false"}, "UserIsRequestor")
    point = one.get("NetworkAccessPointTypeCode")
    need((point is None) == (one.get("NetworkAccessPointID") is None), "half of a network access point")
    need(point in {None, "1", "2", "3", "4", "5"}, "an unknown kind of network access point")
    roles = [code(role) for role in one.findall("RoleIDCode")]
    need(set(roles) <= ROLES, f"unknown roles {roles}")
    return {"user": one.get("UserID"), "roles": roles, "host": one.get("NetworkAccessPointID")}


def check_object(one):
    attributes(
        one,
        ["ParticipantObjectID", "ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole"],
        ["ParticipantObjectDataLifeCycle", "ParticipantObjectSensitivity"],
    )
    need(one.get("ParticipantObjectTypeCode") in {"1", "2", "3", "4"}, "the type of an object")
    need(1 <= int(one.get("ParticipantObjectTypeCodeRole")) <= 26, "the role of an object")
    order(
        one,
        ["ParticipantObjectIDTypeCode", "ParticipantObjectName", "ParticipantObjectQuery", "ParticipantObjectDetail",
         "ParticipantObjectDescription", "MPPS", "Accession", "SOPClass", "ParticipantObjectContainsStudy"],
    )
    kinds = one.findall("ParticipantObjectIDTypeCode")
    need(len(kinds) == 1, "an object without the type of its ID")
    name, query = one.findall("ParticipantObjectName"), one.findall("ParticipantObjectQuery")
    need(len(name) + len(query) == 1, "an object has either a name or a query")
    for text in query:
        base64.b64decode(text.text, validate=True)
    for sop_class in one.findall("SOPClass"):
        attributes(sop_class, ["UID", "NumberOfInstances"])
        need(re.fullmatch(r"[0-9.]{1,64}", sop_class.get("UID")), "a SOP class")
        need(int(sop_class.get("NumberOfInstances")) > 0, "no instances of a SOP class")
    return {"kind": code(kinds[0]), "id": one.get("ParticipantObjectID")}


def check(octets):
    text = octets.decode("utf-8")
    head = HEAD.match(text)
    need(head, "no head of RFC 5424")
    need(int(head[1]) // 8 in {4, 10, 13}, "not of a security facility")
    need(head[6] == "DICOM+RFC3881", "another MSGID")
    body = text[head.end():]
    need(body.startswith("\ufeff"), "no byte order mark before UTF-8")
    message = ET.fromstring(body[1:].encode())
    need(message.tag == "AuditMessage" and not message.attrib, "not an AuditMessage")
    order(
        message,
        ["EventIdentification", "ActiveParticipant", "AuditSourceIdentification", "ParticipantObjectIdentification"],
    )
    events = message.findall("EventIdentification")
    need(len(events) == 1, "not one event")
    event_id, types = check_event(events[0])
    participants = [check_participant(one) for one in message.findall("ActiveParticipant")]
    need(participants, "nobody takes part")
    sources = message.findall("AuditSourceIdentification")
    need(len(sources) == 1, "not one source")
    attributes(sources[0], ["AuditSourceID"], ["AuditEnterpriseSiteID"])
    order(sources[0], ["AuditSourceTypeCode"])
    objects = [check_object(one) for one in message.findall("ParticipantObjectIdentification")]
    wanted = OBJECTS.get(event_id, set())
    need(wanted <= {one["kind"] for one in objects}, f"{event_id} without an object of {wanted}")
    if event_id == "110104":
        roles = {role for one in participants for role in one["roles"]}
        need({"110152", "110153"} <= roles, "a transfer needs a source and a destination")
    outcome = events[0].get("EventOutcomeIndicator")
    return {"event": event_id, "types": types, "outcome": outcome, "participants": participants, "objects": objects,
            "raw": body[1:]}


class Repository(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            length = b""
            while (octet := self.rfile.read(1)) not in {b"", b" "}:
                length += octet
            if not length:
                return
            try:
                need(re.fullmatch(rb"[1-9][0-9]{0,6}", length), f"a frame begins with {length!r}")
                octets = self.rfile.read(int(length))
                need(len(octets) == int(length), "a frame is cut short")
                said = check(octets)
            except (ValueError, KeyError, ET.ParseError) as error:
                said = {"wrong": f"{type(error).__name__}: {error}"}
            with self.server.lock, open(self.server.out, "a", encoding="utf-8") as out:
                out.write(json.dumps(said) + "\n")
            if "wrong" in said:
                return


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port, out, tls):
        import threading

        self.lock, self.out, self.tls = threading.Lock(), out, tls
        super().__init__(("127.0.0.1", port), Repository)

    def get_request(self):
        connection, address = super().get_request()
        if self.tls:
            connection.settimeout(10)
            connection = self.tls.wrap_socket(connection, server_side=True)
            connection.settimeout(None)
        return connection, address


class Datagrams(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            said = check(self.request[0])
        except (ValueError, KeyError, ET.ParseError) as error:
            said = {"wrong": f"{type(error).__name__}: {error}"}
        with open(sys.argv[2], "a", encoding="utf-8") as out:
            out.write(json.dumps(said) + "\n")


if sys.argv[3:] == ["udp"]:
    with socketserver.UDPServer(("127.0.0.1", int(sys.argv[1])), Datagrams) as server:
        server.max_packet_size = 65_507
        server.serve_forever()
tls = None
if len(sys.argv) > 3:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=sys.argv[5])
    tls.load_cert_chain(sys.argv[3], sys.argv[4])
    tls.verify_mode = ssl.CERT_REQUIRED
Server(int(sys.argv[1]), sys.argv[2], tls).serve_forever()
