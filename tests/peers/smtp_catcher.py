"""A real mail server (aiosmtpd) that keeps what it gets and can misbehave on order.

Prints one line of JSON when it listens: {"port": …, "cert": …}. Each mail becomes `<n>.json` in
--folder: envelope, decoded headers, parts, as Python's own mail parser reads them.

  --at rcpt|data --answer 550   that answer to RCPT (only for addresses with "bad") or after the mail
  --drop                        keeps the mail, then drops the connection instead of answering
  --no-pictures                 552 after each mail with a picture
  --hang                        never answers after the mail
  --faults 451,drop,...         what the first transactions meet, one each, before all is well: a
                                code, to MAIL (421, 451), RCPT (450, 550) or after the mail (452, 552,
                                554); `hang` or `drop` before the mail is kept, `lost` after it
  --by-address                  the same by the local part of the first address, after its first mail: a code
                                (those with 5 each time), `hang`, `drop`, `lost`, `garbage`
  --greylist SECONDS            450 to each sender and recipient that was not here so long before
  --tls starttls|implicit       with a certificate for localhost, made on the spot
  --auth user:password          needs it, over TLS or not
"""

import argparse
import asyncio
import email
import email.policy
import json
import pathlib
import ssl
import subprocess
import sys
import time

from aiosmtpd.smtp import SMTP, AuthResult


class Keeper:
    def __init__(self, arguments):
        self.arguments = arguments
        self.kept = 0
        self.faults = [fault for fault in arguments.faults.split(",") if fault]
        self.seen = {}
        self.met = set()

    async def handle_MAIL(self, server, session, envelope, address, options):
        session.fault = self.faults.pop(0) if self.faults else ""
        if session.fault in ("421", "451"):
            return f"{session.fault} not now"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.arguments.at == "rcpt" and "bad" in address:
            return f"{self.arguments.answer} address refused"
        if session.fault in ("450", "550"):
            return f"{session.fault} address refused"
        first = self.seen.setdefault((envelope.mail_from, address), time.monotonic())
        if time.monotonic() - first < self.arguments.greylist:
            if session.fault:
                self.faults.insert(0, session.fault)
            return "450 4.7.1 greylisted, try again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    def fault_of(self, envelope):
        name = envelope.rcpt_tos[0].partition("@")[0]
        first = name not in self.met
        self.met.add(name)
        return name if first or name.startswith("5") else ""

    async def handle_DATA(self, server, session, envelope):
        if self.arguments.by_address:
            session.fault = self.fault_of(envelope)
        if self.arguments.at == "data":
            return f"{self.arguments.answer} refused after the mail"
        if session.fault.isdigit():
            return f"{session.fault} refused after the mail"
        if self.arguments.no_pictures and b"Content-ID:" in envelope.content:
            return "552 5.3.4 message too big"
        if session.fault == "hang":
            await asyncio.sleep(3600)
        if session.fault == "drop":
            server.transport.abort()
            return "451 gone"
        self.keep(session, envelope)
        if self.arguments.drop or session.fault == "lost":
            server.transport.abort()
        if self.arguments.hang:
            await asyncio.sleep(3600)
        if session.fault == "garbage":
            return "<html>sign in</html>"
        return f"250 OK queued as {self.kept}"

    def keep(self, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = []
        for part in message.walk():
            if part.is_multipart():
                continue
            content = part.get_content()
            parts.append(
                {
                    "type": part.get_content_type(),
                    "disposition": part.get_content_disposition(),
                    "cid": part["Content-ID"],
                    "text": content if isinstance(content, str) else None,
                    "size_bytes": len(part.get_payload(decode=True)),
                }
            )
        self.kept += 1
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "encrypted": session.ssl is not None or self.arguments.tls == "implicit",
            "user": session.auth_data.decode() if session.auth_data else None,
            "ascii": envelope.content.isascii(),
            "defects": [str(defect) for defect in message.defects],
            "headers": {name.lower(): str(value) for name, value in message.items()},
            "header_names": [name.lower() for name in message.keys()],
            "parts": parts,
            "raw": envelope.content.decode("utf-8", "replace"),
        }
        target = self.arguments.folder / f"{self.kept}.json"
        target.write_text(json.dumps(mail), encoding="utf-8")


def certificate(folder):
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    options = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    options += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command.split() + options, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context, str(cert)


def authenticator(expected):
    def check(server, session, envelope, mechanism, data):
        given = f"{data.login.decode()}:{data.password.decode()}"
        # handled=False: the server itself answers 535.
        return AuthResult(success=given == expected, handled=False, auth_data=data.login)

    return check


async def serve(arguments):
    context, cert = certificate(arguments.folder) if arguments.tls else (None, None)
    options = {"hostname": "catcher.test", "timeout": 3600}
    if arguments.tls == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    if arguments.auth:
        options |= {"authenticator": authenticator(arguments.auth), "auth_required": True}
        options |= {"auth_require_tls": arguments.tls == "starttls"}
    keeper = Keeper(arguments)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(keeper, **options),
        "127.0.0.1",
        arguments.port,
        ssl=context if arguments.tls == "implicit" else None,
    )
    print(json.dumps({"port": server.sockets[0].getsockname()[1], "cert": cert}), flush=True)
    # The starter holds our standard input: when it is gone, so are we.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--folder", type=pathlib.Path, required=True)
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--at", choices=["rcpt", "data"])
    arguments.add_argument("--answer", default="450")
    arguments.add_argument("--drop", action="store_true")
    arguments.add_argument("--no-pictures", action="store_true")
    arguments.add_argument("--hang", action="store_true")
    arguments.add_argument("--by-address", action="store_true")
    arguments.add_argument("--faults", default="")
    arguments.add_argument("--greylist", type=float, default=0)
    arguments.add_argument("--tls", choices=["starttls", "implicit"])
    arguments.add_argument("--auth")
    asyncio.run(serve(arguments.parse_args()))


main()
