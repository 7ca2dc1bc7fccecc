"""Prelim and its peers, measured in turn with the same files and senders. Called by scripts/bench.

One round of a case runs every server once, on an empty folder; rounds are interleaved, so that a
slow minute of the machine meets all of them. What counts is the median of the ratios of one round.
"""

import argparse
import copy
import json
import os
import pathlib
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import data_store
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import DigitalXRayImageStorageForPresentation, generate_uid

NODELAY = {"TCP_NODELAY": "1"}
TICK = os.sysconf("SC_CLK_TCK")


# ---- files ------------------------------------------------------------------------------------

def fresh(ds):
    """New UIDs, each of 44 characters: the rig counts in the last 16 of them."""
    uid = lambda: ("2.25." + "".join(c for c in generate_uid(prefix=None)[5:])).ljust(44, "7")[:44]
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(), uid()
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid()
    return ds


def make_files(folder, copies):
    """Real pixels: a CT slice (0.53 MB), a chest X-ray continued to 10.2 MB, an MR of 10 KB."""
    packages = pathlib.Path(data_store.__file__).parent / "data"
    ct = dcmread(packages / "693_UNCR.dcm")
    dx = dcmread(packages / "RG1_UNCR.dcm")
    row = dx.Columns * 2
    rows = 10_200_000 // row
    dx.PixelData = (dx.PixelData * 2)[:rows * row]
    dx.Rows, dx.Modality = rows, "DX"
    dx.SOPClassUID = dx.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    mr = dcmread(get_testdata_file("MR_small.dcm"))
    made = {}
    for name, ds, count in (("ct", ct, 4), ("dx", dx, 2), ("mr", mr, 8)):
        made[name] = []
        for number in range(count):
            path = folder / f"{name}-{number}.dcm"
            fresh(copy.deepcopy(ds)).save_as(path)
            made[name].append(str(path))
    made["copies"] = []
    (folder / "copies").mkdir()
    for number in range(copies):
        path = folder / "copies" / f"{number:04}.dcm"
        fresh(ct).save_as(path)
        made["copies"].append(str(path))
    return made


# ---- servers ----------------------------------------------------------------------------------

class Server:
    """How to start one. `takes`: kinds of cases that make sense with it."""

    def __init__(self, name, command, env=None, one_at_a_time=False, cases=None):
        self.name, self.command, self.env = name, command, env or {}
        self.one_at_a_time, self.cases = one_at_a_time, cases

    def takes(self, case):
        if self.cases is not None:
            return case.kind in self.cases
        return not (self.one_at_a_time and case.kind in ("hold", "priority"))


def servers(args, rig):
    def prelim(*more):
        def command(folder, port, extra=()):
            settings = ["assemble.quiet_period_s=600", "telemetry.filter=error", "dicom.associations_max=1000",
                        "dicom.associations_per_peer_max=1000", *more, *extra]
            sets = [part for setting in settings for part in ("--set", setting)]
            return [args.prelim, "serve", "--data", f"{folder}/data", "--dicom", f"127.0.0.1:{port}",
                    "--http", "127.0.0.1:0", *sets]
        return command

    def null(kind):
        return lambda folder, port: [rig, "serve", str(port), f"{folder}/data", kind]

    def storescp(*options):
        return lambda folder, port: ["storescp", *options, "-od", folder, str(port)]

    def orthanc(folder, port):
        with open(f"{folder}/orthanc.json", "w") as file:
            json.dump({"StorageDirectory": f"{folder}/data", "IndexDirectory": f"{folder}/data",
                       "DicomPort": port, "HttpPort": free_port(), "DicomAet": "PRELIM",
                       "DicomAlwaysAllowStore": True, "DicomAlwaysAllowEcho": True,
                       "AuthenticationEnabled": False}, file)
        return ["Orthanc", f"{folder}/orthanc.json"]

    def pynetdicom(folder, port):
        return [sys.executable, "-m", "pynetdicom", "storescp", "-q", "-od", folder, str(port)]

    def dicom_rs(folder, port):
        return ["dicom-storescp", "--non-blocking", "--promiscuous", "--max-pdu-length", "131072",
                "-o", folder, "-p", str(port)]

    most = ("store", "sender", "echo", "start")
    found = [
        Server("prelim", prelim()),
        Server("null-durable", null("durable")),
        Server("null-group", null("group")),
        Server("null-discard", null("discard")),
        Server("storescp", storescp(), NODELAY, one_at_a_time=True),
        Server("storescp-fork", storescp("--fork", "-pdu", "131072"), NODELAY),
        Server("storescp-shipped", storescp(), one_at_a_time=True, cases=("sender", "shipped")),
        Server("orthanc", orthanc, NODELAY, cases=("store", "sender", "echo", "start", "memory", "large", "hold")),
        Server("pynetdicom", pynetdicom, cases=most),
        Server("dicom-storescp", dicom_rs),
    ]
    if args.relaxed:
        found.insert(1, Server("prelim-relaxed", prelim(args.relaxed), cases=("store",)))
    programs = {"storescp": "storescp", "orthanc": "Orthanc", "dicom-storescp": "dicom-storescp"}
    missing = {name for name, program in programs.items() if shutil.which(program) is None}
    for name in sorted(missing):
        print(f"{programs[name]} is not installed: left out", file=sys.stderr)
    return [server for server in found if server.name.split("-fork")[0].split("-shipped")[0] not in missing]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def c_echo(port):
    """One C-ECHO by hand: no sender's start is in the time."""
    item = lambda kind, body: struct.pack(">BBH", kind, 0, len(body)) + body
    context = b"\x01\0\0\0" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2")
    body = (b"\0\x01\0\0" + b"PRELIM".ljust(16) + b"BENCH".ljust(16) + bytes(32)
            + item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context)
            + item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3")))
    element = lambda number, value: struct.pack("<HHI", 0, number, len(value)) + value
    command = (element(2, b"1.2.840.10008.1.1\0") + element(0x100, b"\x30\0") + element(0x110, b"\x01\0")
               + element(0x800, b"\x01\x01"))
    command = element(0, struct.pack("<I", len(command))) + command
    with socket.create_connection(("127.0.0.1", port), 5) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sendall(struct.pack(">BBI", 1, 0, len(body)) + body)
        if wire.recv(65536)[:1] != b"\x02":
            raise OSError("no association")
        value = struct.pack(">IBB", len(command) + 2, 1, 3) + command
        wire.sendall(struct.pack(">BBI", 4, 0, len(value)) + value)
        if wire.recv(65536)[:1] != b"\x04":
            raise OSError("no answer")
        wire.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        wire.recv(10)


class Running:
    """A server on an empty folder; `started_ms`: from its start to its first C-ECHO."""

    def __init__(self, server, base, extra=(), wrap=()):
        self.folder = tempfile.mkdtemp(dir=base)
        self.port = free_port()
        command = server.command(self.folder, self.port, extra) if extra else server.command(self.folder, self.port)
        self.log = open(f"{self.folder}/log", "wb")
        began = time.monotonic()
        self.process = subprocess.Popen([*wrap, *command], env={**os.environ, **server.env},
                                        stdout=self.log, stderr=subprocess.STDOUT)
        while True:
            try:
                c_echo(self.port)
                break
            except OSError:
                late = time.monotonic() - began > 60
                if late or self.process.poll() is not None:
                    self.log.flush()
                    said = pathlib.Path(f"{self.folder}/log").read_text(errors="replace")
                    self.end()
                    raise SystemExit(f"{server.name} does not answer: {said[-2000:]}")
                time.sleep(0.001)
        self.started_ms = (time.monotonic() - began) * 1000

    def tree(self):
        """The processes of the server: itself and what it started."""
        children = {}
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append((int(path.parent.name), fields))
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += [child for child, _ in children.get(pid, [])]
        return found

    def cpu_s(self):
        """User and system time of the tree, with the children that have ended."""
        ticks = 0
        for pid in self.tree():
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += sum(map(int, fields[11:15]))
            except OSError:
                pass
        return ticks / TICK

    def settled_cpu_s(self):
        """The same when what goes on in the background after the last answer is done."""
        last = self.cpu_s()
        for _ in range(50):
            time.sleep(0.2)
            now = self.cpu_s()
            if now - last <= 1 / TICK:
                return now
            last = now
        return last

    def peak_mb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def pss_mb(self):
        total = 0
        for pid in self.tree():
            try:
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(text.split("\nPss:")[1].split()[0])
            except (OSError, IndexError):
                pass
        return total / 1024

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder)
        # What the last server left to the kernel is not paid by the next one.
        os.sync()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


# ---- cases ------------------------------------------------------------------------------------

class Case:
    def __init__(self, name, kind, file=None, associations=1, program=None, most=0):
        self.name, self.kind, self.file = name, kind, file
        self.associations, self.program, self.most = associations, program, most


CASES = [
    *(Case(f"{file}{n}", "store", file, n, most=most)
      for file, most in (("ct", 1500), ("dx", 120), ("mr", 12000)) for n in (1, 8, 32)),
    Case("storescu-ct", "sender", program="storescu"),
    Case("dcmsend-ct", "sender", program="dcmsend"),
    Case("dicomrs-ct", "sender", program="dicom-storescu"),
    Case("shipped-ct", "shipped", "ct"),
    Case("assoc1", "echo", associations=1),
    Case("assoc8", "echo", associations=8),
    Case("start", "start"),
    Case("memory-dx8", "memory", "dx", 8, most=120),
    Case("memory-large", "large", "ct"),
    Case("memory-500", "hold", associations=500),
    Case("priority-ct8", "priority", "ct", 8, most=1500),
    Case("callgrind-ct", "callgrind", "ct", most=40),
    Case("callgrind-mr", "callgrind", "mr", most=200),
]
QUICK = ("ct1", "ct8", "dx8", "mr8", "storescu-ct", "assoc1", "assoc8", "start")


class Bench:
    def __init__(self, args, rig, base):
        self.args, self.rig, self.base = args, rig, base
        self.files = make_files(pathlib.Path(base), args.copies)

    def rigged(self, *words, check=True):
        done = subprocess.run([self.rig, *map(str, words)], capture_output=True, text=True)
        if check and done.returncode:
            raise SystemExit(f"rig {words[0]}: {done.stderr}{done.stdout}")
        return json.loads(done.stdout) if done.stdout else {}

    def stored(self, running, case):
        return self.rigged("store", running.port, "PRELIM", case.associations, self.args.seconds, case.most,
                           *self.files[case.file])

    def run(self, case, server):
        """One run: what was measured, by name. `rate` is what ratios are made of."""
        return getattr(self, case.kind)(case, server)

    def store(self, case, server):
        """Once before the clock runs, as for a server that did not start today; then at rest."""
        with Running(server, self.base) as running:
            if not self.args.cold:
                self.stored(running, case)
            before = running.settled_cpu_s()
            sent = self.stored(running, case)
            cpu = running.settled_cpu_s() - before
            return {"rate": sent["instances"] / sent["seconds"], "mb_per_s": sent["bytes"] / sent["seconds"] / 1e6,
                    "cpu_s_per_gb": cpu / (sent["bytes"] / 1e9), "cpu_us": cpu / sent["instances"] * 1e6,
                    "median_ms": sent["median_ms"], "p99_ms": sent["p99_ms"], "peak_mb": running.peak_mb()}

    def shipped(self, case, server):
        case = Case(case.name, "store", case.file, 1, most=60)
        return self.store(case, server)

    def sender(self, case, server):
        if shutil.which(case.program) is None:
            return None
        with Running(server, self.base) as running:
            files, port = self.files["copies"], str(running.port)
            command = {"storescu": ["storescu", "-aec", "PRELIM", "127.0.0.1", port, *files],
                       "dcmsend": ["dcmsend", "-aec", "PRELIM", "127.0.0.1", port, *files],
                       "dicom-storescu": ["dicom-storescu", f"PRELIM@127.0.0.1:{port}", *files]}[case.program]
            began = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True)
            seconds = time.monotonic() - began
            if done.returncode:
                raise SystemExit(f"{case.program} to {server.name}: {done.stdout}{done.stderr}")
            return {"rate": len(files) / seconds}

    def echo(self, case, server):
        with Running(server, self.base) as running:
            seconds = min(self.args.seconds, 2)
            done = self.rigged("echo", running.port, "PRELIM", case.associations, seconds)
            return {"rate": done["associations"] / done["seconds"], "first_answer_ms": done["first_answer_ms"]}

    def start(self, case, server):
        with Running(server, self.base) as running:
            return {"rate": 1000 / running.started_ms, "start_ms": running.started_ms}

    def watched(self, running, work):
        """The highest sum of Pss over the server's processes while `work` runs."""
        highest, over = [running.pss_mb()], threading.Event()

        def watch():
            while not over.wait(0.05):
                highest.append(running.pss_mb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            done = work()
        finally:
            over.set()
            watcher.join()
        return done, max(highest)

    def memory(self, case, server):
        with Running(server, self.base) as running:
            _, highest = self.watched(running, lambda: self.stored(running, case))
            return {"rate": 1 / highest, "all_mb": highest, "peak_mb": running.peak_mb()}

    def large(self, case, server):
        with Running(server, self.base) as running:
            work = lambda: self.rigged("large", running.port, "PRELIM", self.args.large_bytes, self.files["ct"][0],
                                       check=False)
            done, highest = self.watched(running, work)
            return {"rate": 1 / highest, "all_mb": highest, "peak_mb": running.peak_mb(),
                    "status": done.get("status"), "seconds": done.get("seconds")}

    def hold(self, case, server):
        with Running(server, self.base) as running:
            holder = subprocess.Popen([self.rig, "hold", str(running.port), "PRELIM", str(case.associations)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            said = holder.stdout.readline()
            highest = running.pss_mb()
            holder.communicate()
            answered = json.loads(said)["answered"] if said else 0
            return {"rate": 1 / highest, "all_mb": highest, "peak_mb": running.peak_mb(), "answered": answered}

    def priority(self, case, server):
        """The rate while both cores analyse, against the rate of the same node left alone."""
        if server.name != "prelim":
            return None
        alone = self.store(case, server)["rate"]
        with Running(server, self.base, extra=("assemble.quiet_period_s=5",)) as running:
            self.stored(running, case)
            # Each association of the rig is a study: 60 studies of large pictures are a long day.
            for _ in range(3):
                self.rigged("store", running.port, "PRELIM", 20, 60, 40, *self.files["dx"])
            workers = lambda: running.tree()[1:]
            deadline = time.monotonic() + 30
            while len(workers()) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(2)
            before = sum(self.cpu_of(pid) for pid in workers())
            began = time.monotonic()
            sent = self.stored(running, case)
            busy = (sum(self.cpu_of(pid) for pid in workers()) - before) / (time.monotonic() - began)
            rate = sent["instances"] / sent["seconds"]
            return {"rate": rate, "alone": alone, "kept": rate / alone, "workers_cores": busy}

    @staticmethod
    def cpu_of(pid):
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            return sum(map(int, fields[11:15])) / TICK
        except OSError:
            return 0

    def callgrind(self, case, server):
        """User instructions an instance: two runs of different length, the difference divided."""
        if server.name not in ("prelim", "storescp", "null-durable", "null-group"):
            return None
        counts = []
        for instances in (case.most, 3 * case.most):
            out = f"{self.base}/callgrind.out"
            wrap = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
            with Running(server, self.base, wrap=wrap) as running:
                self.rigged("store", running.port, "PRELIM", 1, 600, instances, *self.files[case.file])
                time.sleep(2)
                running.process.terminate()
                running.process.wait(60)
            # Under a child's pid where there are several; the node's own is the first.
            text = pathlib.Path(out).read_text(errors="replace")
            line = next(line for line in text.splitlines() if line.startswith(("summary:", "totals:")))
            counts.append(int(line.split()[1]))
        each = (counts[1] - counts[0]) / (2 * case.most)
        return {"rate": 1e6 / each, "instructions": each}


# ---- the table --------------------------------------------------------------------------------

SHOWN = ("rate", "mb_per_s", "cpu_s_per_gb", "cpu_us", "median_ms", "p99_ms", "peak_mb", "all_mb", "first_answer_ms",
         "start_ms", "answered", "kept", "workers_cores", "instructions", "status", "seconds")


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def ratio(rounds, over, under):
    pairs = [(r[over]["rate"], r[under]["rate"]) for r in rounds if r.get(over) and r.get(under)]
    return statistics.median(a / b for a, b in pairs) if pairs else None


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(results):
    lines = []
    for case, rounds in results.items():
        names = list(dict.fromkeys(name for r in rounds for name in r))
        keys = [key for key in SHOWN if any(key in r[name] for r in rounds for name in r)]
        lines += [f"\n**{case}**, {len(rounds)} rounds\n",
                  "| server | " + " | ".join(keys) + " | prelim / it |", "| --- |" + " --- |" * (len(keys) + 1)]
        for name in names:
            cells = [number(median([r[name].get(key) for r in rounds if name in r])) for key in keys]
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {number(ratio(rounds, 'prelim', name))} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prelim", default="target/release/prelim", help=argparse.SUPPRESS)
    parser.add_argument("--rig", default="target/bench/rig", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="length of one run")
    parser.add_argument("--cold", action="store_true", help="measure the first run of a new folder")
    parser.add_argument("--quick", action="store_true", help="the most telling cases, 3 rounds of 1 s")
    parser.add_argument("--case", action="append", help="only this one (again for more), e.g. ct8")
    parser.add_argument("--server", action="append", help="only this one (again for more), e.g. prelim")
    parser.add_argument("--relaxed", help="setting that makes a second Prelim relaxed, e.g. store.durability=relaxed")
    parser.add_argument("--callgrind", action="store_true", help="also count instructions (slow)")
    parser.add_argument("--copies", type=int, default=100, help="files for the unmodified senders")
    parser.add_argument("--large-bytes", type=int, default=1 << 30, help="size of the large object")
    parser.add_argument("--folder", default="target/bench", help="where servers keep what they take")
    parser.add_argument("--list", action="store_true", help="names of cases and servers")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds = min(args.rounds, 3), min(args.seconds, 1)
    cases = [case for case in CASES if case.name in (args.case or (QUICK if args.quick else [c.name for c in CASES]))]
    if not args.callgrind and not args.case:
        cases = [case for case in cases if case.kind != "callgrind"]
    args.prelim, rig = os.path.abspath(args.prelim), os.path.abspath(args.rig)
    known = servers(args, rig)
    if args.list:
        print("cases:  ", *(case.name for case in CASES), "\nservers:", *(server.name for server in known))
        return
    for asked, names in ((args.case, CASES), (args.server, known)):
        wrong = set(asked or []) - {each.name for each in names}
        if wrong:
            raise SystemExit(f"not known: {', '.join(sorted(wrong))}; see --list")
    known = [server for server in known if not args.server or server.name in args.server]
    pathlib.Path(args.folder).mkdir(parents=True, exist_ok=True)
    results = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as base:
        bench = Bench(args, rig, os.path.abspath(base))
        for case in cases:
            results[case.name] = []
            for done in range(args.rounds if case.kind not in ("large", "callgrind") else 1):
                # Another one begins each time: who comes first finds another disk than who is last.
                shift = done % max(1, len(known))
                found = {}
                for server in known[shift:] + known[:shift]:
                    measured = bench.run(case, server) if server.takes(case) else None
                    if measured:
                        found[server.name] = measured
                        print(f"{case.name:14} {done + 1} {server.name:18}",
                              " ".join(f"{key}={number(value)}" for key, value in measured.items()), file=sys.stderr)
                # In the order of the list again.
                results[case.name].append({s.name: found[s.name] for s in known if s.name in found})
            pathlib.Path(args.folder, "result.json").write_text(json.dumps(results, indent=1))
    table = markdown(results)
    pathlib.Path(args.folder, "result.md").write_text(table + "\n")
    print(table)


main()
