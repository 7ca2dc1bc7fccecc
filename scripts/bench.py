"""Instances per second into two servers in turn: bench.py PRELIM ROUNDS. Called by scripts/bench."""

import copy
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import data_store
from pydicom import dcmread
from pydicom.uid import generate_uid

INSTANCES = 200
ASSOCIATIONS = (1, 4)


def make(folder):
    """Copies of one real CT slice (0.5 MB) with UIDs of their own, one study an association."""
    first = dcmread(pathlib.Path(data_store.__file__).parent / "data/693_UNCR.dcm")
    files = []
    for number in range(INSTANCES):
        ds = copy.deepcopy(first)
        ds.StudyInstanceUID = generate_uid()
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        files.append(str(folder / f"{number:04}.dcm"))
        ds.save_as(files[-1])
    return files


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_listening(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def rate(start_server, send, files, associations):
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        server = subprocess.Popen(start_server(folder, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until_listening(port)
            parts = [files[n::associations] for n in range(associations)]
            began = time.monotonic()
            senders = [subprocess.Popen(send(port, part), stdout=subprocess.DEVNULL) for part in parts]
            codes = [sender.wait() for sender in senders]
            seconds = time.monotonic() - began
            if any(codes):
                raise SystemExit(f"a sender failed: {codes}")
            return len(files) / seconds
        finally:
            server.terminate()
            server.wait()


def main():
    prelim, rounds = sys.argv[1], int(sys.argv[2])

    def node(folder, port):
        quiet = ["--set", "assemble.quiet_period_s=600", "--set", "telemetry.filter=error"]
        return [prelim, "serve", "--data", folder + "/data", "--dicom", f"127.0.0.1:{port}",
                "--http", "127.0.0.1:0", *quiet]

    def storescp(folder, port):
        return ["env", "TCP_NODELAY=1", "storescp", "--fork", "-od", folder, str(port)]

    senders = {
        "storescu": lambda port, files: ["env", "TCP_NODELAY=1", "storescu", "-aec", "PRELIM", "127.0.0.1", str(port), *files],
        "prelim send": lambda port, files: [prelim, "send", f"PRELIM@127.0.0.1:{port}", *files],
    }
    with tempfile.TemporaryDirectory() as folder:
        files = make(pathlib.Path(folder))
        print(f"{INSTANCES} CT slices of {pathlib.Path(files[0]).stat().st_size} bytes, {rounds} rounds, medians")
        print(f"{'sender':12} {'associations':>12} {'prelim/s':>9} {'storescp/s':>10} {'ratio':>6}  (least to most)")
        for name, send in senders.items():
            for associations in ASSOCIATIONS:
                ours, theirs = [], []
                for _ in range(rounds):
                    ours.append(rate(node, send, files, associations))
                    theirs.append(rate(storescp, send, files, associations))
                ratios = sorted(a / b for a, b in zip(ours, theirs))
                print(f"{name:12} {associations:12} {statistics.median(ours):9.0f} {statistics.median(theirs):10.0f} "
                      f"{statistics.median(ratios):6.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)


main()
