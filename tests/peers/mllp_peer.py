"""A receiver of HL7 v2 messages over MLLP, with faults.

    mllp_peer.py --port N --folder DIR [--answers AR,silence,AA]

Answers the messages in turn as listed, every further one with the last: an acknowledgement code
(AA, AE, AR), or wrong (another control id), garbage, silence, cut (half an answer), close.
Keeps each message as DIR/NN.hl7 before it answers.
"""

import argparse
import asyncio
import pathlib

START, END = b"\x0b", b"\x1c\r"


def field(message, number):
    header = message.split(b"\r", 1)[0].split(b"|")
    return header[number - 1] if len(header) >= number else b""


def acknowledgement(message, code, control_id):
    parts = [b"MSH|^~\\&", field(message, 5), field(message, 6), field(message, 3),
             field(message, 4), b"20260101120000", b"", b"ACK^R01^ACK", b"A1", b"P", b"2.5.1"]
    words = b"" if code == "AA" else b"|no such patient here"
    return b"|".join(parts) + b"\rMSA|" + code.encode() + b"|" + control_id + words + b"\r"


class Peer:
    def __init__(self, folder, answers):
        self.folder, self.answers, self.count = folder, answers, 0

    async def serve(self, reader, writer):
        try:
            while True:
                message = (await reader.readuntil(END)).strip(START + END)
                answer = self.answers[min(self.count, len(self.answers) - 1)]
                self.count += 1
                name = self.folder / f"{self.count:02}.hl7"
                name.with_suffix(".part").write_bytes(message)
                name.with_suffix(".part").rename(name)
                if not await self.answer(writer, message, answer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def answer(self, writer, message, answer):
        control_id = field(message, 10)
        if answer == "close":
            return False
        if answer == "silence":
            await asyncio.sleep(3600)
        if answer == "garbage":
            said = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        elif answer == "wrong":
            said = START + acknowledgement(message, "AA", b"ANOTHER") + END
        elif answer == "cut":
            said = START + acknowledgement(message, "AA", control_id)[:30]
        else:
            said = START + acknowledgement(message, answer, control_id) + END
        writer.write(said)
        await writer.drain()
        return answer not in ("cut", "garbage")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--answers", default="AA")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    peer = Peer(args.folder, args.answers.split(","))
    server = await asyncio.start_server(peer.serve, "127.0.0.1", args.port, limit=64 << 20)
    async with server:
        await server.serve_forever()


asyncio.run(main())
