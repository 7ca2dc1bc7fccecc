"""Readings by a scripted gateway with a known latency and known prices. Called by scripts/bench-analysis.

overhead: what Prelim adds to the gateway's own time, from the closed study to its last result, one study at a time and
          eight at a time.
flight:   studies a minute with 8 and 64 calls on their way, beside what the latency alone would allow, and the memory
          of the node with its workers.
tiered:   100 labelled chest X-rays of children (25 with pneumonia) through a strong model alone, and through a
          strategy that screens them with a cheap one. The strong model says the label; the cheap one says what the
          local model had said of the picture (reference_outputs.csv), so the saving is of these prices and this mix.
alerts:   studies that come at a steady rate, so that about 200 of them are with the model at any time, each with a
          finding that cannot wait: seconds from the last image to the alert that a real mail server (aiosmtpd) has
          taken, without the model's own time and the quiet period.
waiting:  how long a study that the local model reads takes alone, and while 200 wait for a gateway of 60 s; and a study
          that is wanted at once behind 10,000 small ones, from its last image to its last result.
"""

import argparse
import asyncio
import base64
import csv
import datetime
import hashlib
import io
import json
import pathlib
import random
import socket
import statistics
import subprocess
import tarfile
import tempfile
import threading
import time

import numpy
from aiosmtpd.controller import Controller
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRICES = {"cheap": (0.15, 0.6), "strong": (2.5, 10.0), "alarm": (2.5, 10.0)}


def thumbnail(picture):
    return numpy.asarray(picture.convert("L").resize((24, 24)), dtype=numpy.float32)


def reading(keys, found, confidence):
    """Every key answered; `found` is present, the others are absent."""
    absent = {"name": "", "presence": "absent", "probability": 0.02, "laterality": "none", "severity": "none", "site": "",
              "description": "", "pictures": [], "boxes": [], "measurements": [], "differential": [], "recommendation": "",
              "urgency": "routine"}
    present = {"presence": "present", "probability": 0.9, "laterality": "right", "severity": "moderate",
               "description": "Opacity with air bronchograms.", "pictures": [1], "urgency": "urgent"}
    findings = [absent | {"key": key} | (present if key == found else {}) for key in keys if key != "other"]
    return {"findings": findings, "impression": "Consolidation." if found else "Clear.", "recommendation": "",
            "image_quality": {"usable": "good", "remarks": ""}, "urgency": "urgent" if found else "routine",
            "confidence": confidence}


class Gateway:
    """/NAME/v1/chat/completions; one thread, no work but for the labelled pictures."""

    def __init__(self, latency_s, known=()):
        self.latency_s, self.calls, self.at_once, self.most = latency_s, {}, 0, 0
        self.thumbnails = numpy.array([thumbnail(picture) for picture, *_ in known]) if known else None
        self.known = known
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self.run, args=(started,), daemon=True).start()
        started.wait()

    def run(self, started):
        asyncio.set_event_loop(self.loop)
        serving = asyncio.start_server(self.serve, "127.0.0.1", self.port, limit=1 << 26, backlog=1024)
        self.loop.run_until_complete(serving)
        started.set()
        self.loop.run_forever()

    async def serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length")]
                body = await reader.readexactly(int(length[0]) if length else 0)
                if head.startswith("GET"):
                    writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}')
                    continue
                name = head.split("/")[1]
                self.calls[name] = self.calls.get(name, 0) + 1
                self.at_once += 1
                self.most = max(self.most, self.at_once)
                began = time.monotonic()
                answer = self.answer(name, json.loads(body))
                await asyncio.sleep(max(0, self.latency_s - (time.monotonic() - began)))
                self.at_once -= 1
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
                writer.write(head.encode() + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, name, body):
        schema = body["response_format"]["json_schema"]["schema"]
        keys = schema["properties"]["findings"]["items"]["properties"]["key"]["enum"]
        found, confidence = "pneumonia" if name == "alarm" else None, 0.95
        if self.known:
            parts = body["messages"][-1]["content"]
            url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
            seen = thumbnail(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))))
            nearest = int(numpy.abs(self.thumbnails - seen).mean(axis=(1, 2)).argmin())
            _, label, probability = self.known[nearest]
            if name == "strong":
                found = "pneumonia" if label else None
            else:
                found = "pneumonia" if probability >= 0.5 else None
                confidence = max(probability, 1 - probability)
        said = reading(keys, found, confidence)
        if name == "alarm":
            # Of critical findings every one is told at once, however many come.
            said["urgency"] = "critical"
            for finding in said["findings"]:
                finding["urgency"] = "critical" if finding["key"] == found else "routine"
        text = json.dumps(said)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 2500, "completion_tokens": 1200, "total_tokens": 3700}
        return json.dumps({"id": "1", "object": "chat.completion", "model": name, "choices": [choice], "usage": usage}).encode()


def chest_xray(grey, path, number, **elements):
    """A radiograph of the chest, unless `elements` say otherwise; returns its Study Instance UID. The studies are of different patients; each picture differs in one pixel, so that no answer is kept for another."""
    pixels = numpy.array(grey.convert("L"))
    pixels[0, 0] = number % 251
    ds = Dataset()
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid(), generate_uid()
    ds.StudyDate, ds.StudyTime = "20260105", "081500"
    ds.Modality, ds.StudyDescription, ds.BodyPartExamined, ds.ViewPosition = "CR", "Chest AP", "CHEST", "AP"
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientAge = f"Bench^{number}", f"BENCH-{number}", "M", "004Y"
    ds.InstanceNumber = 1
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    data = pixels.tobytes()
    ds.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return str(ds.StudyInstanceUID)


class Node:
    def __init__(self, prelim, data, settings):
        self.prelim, self.data = prelim, data
        settings = ["dicom.listen=\"127.0.0.1:0\"", "http.listen=\"127.0.0.1:0\"", "assemble.quiet_period_s=1",
                    "telemetry.filter=\"error\"", "analysis.cache.size_max_mb=0"] + settings
        sets = [part for one in settings for part in ("--set", one)]
        self.process = subprocess.Popen([prelim, "serve", "--data", data, *sets])
        while not (data / "node.json").is_file():
            assert self.process.poll() is None, "the node did not start"
            time.sleep(0.02)
        self.dicom = json.loads((data / "node.json").read_text())["dicom"]

    def send(self, files):
        subprocess.run([self.prelim, "send", f"PRELIM@{self.dicom}", *files], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def ask(self, *what):
        said = subprocess.run([self.prelim, *what, "--data", self.data, "--json"], check=True, capture_output=True)
        return json.loads(said.stdout)

    def wait(self, uids):
        """The studies once all are done, with the most memory that node and workers took meanwhile, in MB."""
        most = 0
        while True:
            most = max(most, self.memory_mb())
            queue = self.ask("queue")["counts"]
            if queue["waiting"] + queue["running"] == 0:
                views = {uid: self.ask("study", uid) for uid in uids}
                if all(view["state"] == "delivered" for view in views.values()):
                    return views, most
            time.sleep(0.2)

    def memory_mb(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        everyone = {str(self.process.pid), *children}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            everyone |= set((task / "children").read_text().split())
        total = 0
        for process in everyone:
            try:
                rows = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
                total += next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
            except (FileNotFoundError, ProcessLookupError, StopIteration):
                pass
        return total // 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def when(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def closed(view):
    return min(when(row["at"]) for row in view["history"] if row["what"] == "closed")


def delivered(view):
    return max(when(row["at"]) for row in view["history"] if row["detail"].startswith("delivered"))


def took(view):
    """Seconds from the closed study to its last result."""
    return (delivered(view) - closed(view)).total_seconds()


def span(views):
    return (max(map(delivered, views)) - min(map(closed, views))).total_seconds()


def settings(gateway, names, at_once, strategy=()):
    lines = [f"pipeline.steps_at_once={max(8, at_once + 4)}", "analysis.provider=\"strong\"", *strategy]
    for name in names:
        at = f"analysis.gateways.{name}"
        price = PRICES[name]
        lines += [f"{at}.url=\"http://127.0.0.1:{gateway.port}/{name}/v1\"", f"{at}.model=\"{name}\"",
                  f"{at}.inside_the_building=true", f"{at}.limits.calls_at_once={at_once}",
                  f"analysis.prices.{name}={{ input = {price[0]}, output = {price[1]} }}"]
    return lines


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def read_all(prelim, gateway, pictures, at_once, one_by_one=False, names=("strong",), strategy=()):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files = [folder / f"{n}.dcm" for n in range(len(pictures))]
        uids = [chest_xray(picture, file, n) for n, (picture, file) in enumerate(zip(pictures, files))]
        node = Node(prelim, folder / "data", settings(gateway, names, at_once, strategy))
        try:
            groups = [[n] for n in range(len(files))] if one_by_one else [range(len(files))]
            views, most = {}, 0
            for group in groups:
                node.send([files[n] for n in group])
                # Asking takes a processor for a moment: not while it is measured.
                time.sleep(1.2 + (gateway.latency_s + 0.7 if one_by_one else 0))
                some, memory = node.wait([uids[n] for n in group])
                views, most = views | some, max(most, memory)
            cost = node.ask("cost")
        finally:
            node.stop()
    return [views[uid] for uid in uids], most, cost


def overhead(args, picture):
    print(f"\noverhead: gateway of {args.latency} s")
    for studies, at_once, one_by_one in ((50, 8, True), (100, 8, False)):
        gateway = Gateway(args.latency)
        views, _, _ = read_all(args.prelim, gateway, [picture] * studies, at_once, one_by_one)
        if one_by_one:
            extra = [1000 * (took(view) - args.latency) for view in views]
            print(f"  one at a time: {studies} studies, median {statistics.median(extra):.0f} ms, "
                  f"p99 {percentile(extra, 0.99):.0f} ms from the closed study to its last result, without the gateway's time")
        else:
            seconds = span(views)
            extra = 1000 * (seconds - studies / at_once * args.latency) / studies
            print(f"  eight at a time: {studies} studies in {seconds:.1f} s, {extra:.0f} ms of ours for each")


def flight(args, picture):
    print(f"\nflight: gateway of {args.flight_latency} s")
    for at_once, studies in ((8, 64), (64, 384)):
        gateway = Gateway(args.flight_latency)
        views, memory, _ = read_all(args.prelim, gateway, [picture] * studies, at_once)
        rate = 60 * studies / span(views)
        bound = 60 * at_once / args.flight_latency
        print(f"  {at_once} calls at once: {rate:.0f} studies/min ({rate / bound:.2f} of what the latency allows, "
              f"most at once {gateway.most}), node and workers {memory} MB")


def labelled(tar, count, sick):
    rows = csv.DictReader((ROOT / "models/chest-xray-pneumonia-paediatric/reference_outputs.csv").open())
    known = {row["sha256"]: (int(row["label"]), float(row["pneumonia"])) for row in rows}
    pictures = {0: [], 1: []}
    with tarfile.open(tar) as archive:
        for member in archive:
            data = archive.extractfile(member).read() if member.isfile() else b""
            row = known.get(hashlib.sha256(data).hexdigest())
            if row:
                pictures[row[0]].append((Image.open(io.BytesIO(data)).convert("L"), *row))
    random.seed(1)
    chosen = random.sample(pictures[1], sick) + random.sample(pictures[0], count - sick)
    random.shuffle(chosen)
    return chosen


def tiered(args):
    if not args.labelled.is_file():
        print(f"\ntiered: {args.labelled} is not here: nothing measured")
        return
    known = labelled(args.labelled, 100, 25)
    pictures = [picture for picture, *_ in known]
    results = {}
    screened = ["analysis.strategy=\"screened\"", "analysis.strategies.screened.screen=\"cheap\""]
    for what, names, strategy in (("strong alone", ("strong",), ()), ("screened", ("strong", "cheap"), screened)):
        gateway = Gateway(0.05, known)
        views, _, cost = read_all(args.prelim, gateway, pictures, 8, False, names, strategy)
        found = [sorted(view["findings"]) for view in views]
        results[what] = (found, cost["total"]["cost_micro"], gateway.calls)
    (alone, full, _), (both, less, calls) = results["strong alone"], results["screened"]
    same = sum(a == b for a, b in zip(alone, both))
    print(f"\ntiered: 100 labelled pictures, 25 with pneumonia; prices per million tokens {PRICES}")
    print(f"  strong alone {full / 1e6:.3f}, screened {less / 1e6:.3f}: {100 * (1 - less / full):.0f} % saved; "
          f"same findings in {same} of 100 studies; calls {calls}")
    for (_, label, probability), a, b in zip(known, alone, both):
        if a != b:
            print(f"  differs: label {label}, the cheap model had {probability:.3f}: {a} against {b}")


class Mails:
    """Takes every mail and keeps none."""

    async def handle_DATA(self, server, session, envelope):
        return "250 OK"


def alerts(args, picture):
    gateway, mails = Gateway(args.alert_latency), Controller(Mails(), hostname="127.0.0.1", port=0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        mails.port = probe.getsockname()[1]
    mails.start()
    studies = int(args.alert_rate * args.alert_latency * 1.5)
    lines = settings(gateway, ("alarm",), 256)
    lines[1] = "analysis.provider=\"alarm\""
    lines += ["pipeline.steps_at_once=256", "deliver.email.host=\"127.0.0.1\"", f"deliver.email.port={mails.port}",
              "deliver.email.mode=\"none\"", "deliver.email.from=\"prelim@hospital.example\"",
              "alert.recipients.on_call.emails=[\"on-call@hospital.example\"]"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files = [folder / f"{n}.dcm" for n in range(studies)]
        uids = [chest_xray(picture, file, n) for n, file in enumerate(files)]
        node = Node(args.prelim, folder / "data", lines)
        try:
            host, port = node.dicom.rsplit(":", 1)
            ae = AE(ae_title="BENCH")
            ae.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
            association = ae.associate(host, int(port), ae_title="PRELIM")
            began = time.monotonic()
            for n, file in enumerate(files):
                time.sleep(max(0, began + n / args.alert_rate - time.monotonic()))
                assert association.send_c_store(str(file)).Status == 0
            association.release()
            time.sleep(args.alert_latency + 10)
            took = []
            for uid in uids:
                view = node.ask("study", uid)
                sent = [sending for alert in view["alerts"] for sending in alert["sendings"] if sending["state"] == "done"]
                last = when(view["last_received_at"])
                took += [(when(one["at"]) - last).total_seconds() - args.alert_latency - 1 for one in sent[:1]]
        finally:
            node.stop()
            mails.stop()
    print(f"\nalerts: {studies} studies at {args.alert_rate} a second, model {args.alert_latency} s, most with it {gateway.most}")
    print(f"  {len(took)} alerts taken; from the last image, without model and quiet period: median "
          f"{statistics.median(took):.2f} s, p99 {percentile(took, 0.99):.2f} s, most {max(took):.2f} s")


def one_by_one(node, folder, picture, numbers, **elements):
    """Seconds from the last image of each to its last result, without the quiet period."""
    seconds = []
    for number in numbers:
        file = folder / f"one-{number}.dcm"
        uid = chest_xray(picture, file, number, **elements)
        node.send([file])
        while (view := node.ask("study", uid))["state"] != "delivered":
            time.sleep(0.5)
        seconds.append((delivered(view) - when(view["last_received_at"])).total_seconds() - 1)
    return seconds


def chest_by_local(folder):
    profiles = folder / "profiles"
    profiles.mkdir()
    head, tail = (ROOT / "config/profiles/chest_xray.toml").read_text().split("\n", 1)
    (profiles / "chest_xray.toml").write_text(f'{head}\nprovider = "local"\n{tail}')
    return [f'analysis.profiles="{profiles}"']


def waiting(args, picture):
    # Of a foot the gateway is asked, of a child's chest the local model.
    foot = {"BodyPartExamined": "FOOT", "StudyDescription": "Foot", "ViewPosition": "LL"}
    gateway = Gateway(60.0)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files = [folder / f"{n}.dcm" for n in range(200)]
        for n, file in enumerate(files):
            chest_xray(picture, file, n, **foot)
        node = Node(args.prelim, folder / "data", settings(gateway, ("strong",), 4)[1:] + chest_by_local(folder))
        try:
            one_by_one(node, folder, picture, range(300, 305))
            alone = one_by_one(node, folder, picture, range(400, 420))
            node.send(files)
            # All their pictures are made: from here on they wait for nothing but the gateway.
            while node.ask("study", str(read_uid(files[-1])))["state"] != "analysing" or busy(node) > 4:
                time.sleep(0.5)
            behind = one_by_one(node, folder, picture, range(500, 520))
            asked = gateway.calls.get("strong", 0)
        finally:
            node.stop()
    ratio = statistics.median(behind) / statistics.median(alone)
    print(f"\nwaiting: gateway of 60 s, 4 calls at once, 200 studies wait for it ({asked} were asked)")
    print(f"  a study of the local model: median {statistics.median(alone):.2f} s alone, "
          f"{statistics.median(behind):.2f} s beside them: ratio {ratio:.2f} (20 each)")
    small = picture.resize((64, 64))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files = [folder / f"{n}.dcm" for n in range(args.routine)]
        for n, file in enumerate(files):
            chest_xray(small, file, n)
        node = Node(args.prelim, folder / "data", settings(gateway, ("strong",), 4)[1:] + chest_by_local(folder))
        try:
            for first in range(0, len(files), 500):
                node.send(files[first:first + 500])
            took = []
            for number in range(5):
                took += one_by_one(node, folder, picture, [20_000 + number], RequestedProcedurePriority="STAT")
            left = node.ask("queue")["counts"]["waiting"]
        finally:
            node.stop()
    print(f"  wanted at once behind {args.routine} small ones ({left} steps still wait at the end): median "
          f"{statistics.median(took):.2f} s, most {max(took):.2f} s from the last image to the last result (5)")


def busy(node):
    return node.ask("queue")["counts"]["running"]


def read_uid(file):
    return dcmread(file, stop_before_pixels=True).StudyInstanceUID


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["overhead", "flight", "tiered", "alerts", "waiting", "all"])
    parser.add_argument("--prelim", type=lambda text: str(pathlib.Path(text).resolve()), required=True)
    parser.add_argument("--latency", type=float, default=0.5, help="of the gateway, seconds")
    parser.add_argument("--flight-latency", type=float, default=4.0)
    parser.add_argument("--alert-latency", type=float, default=60.0)
    parser.add_argument("--alert-rate", type=float, default=3.4, help="studies a second")
    parser.add_argument("--routine", type=int, default=10_000, help="studies before the one that is wanted at once")
    parser.add_argument("--labelled", type=pathlib.Path, default=ROOT / "../shared/data/cxr-pneumonia/test.tar")
    args = parser.parse_args()
    picture = Image.open(ROOT / "tests/fixtures/cxr/normal_IM-0016-0001.jpeg")
    if args.part in ("overhead", "all"):
        overhead(args, picture)
    if args.part in ("flight", "all"):
        flight(args, picture)
    if args.part in ("tiered", "all"):
        tiered(args)
    if args.part in ("alerts", "all"):
        alerts(args, picture)
    if args.part in ("waiting", "all"):
        waiting(args, picture)


main()
