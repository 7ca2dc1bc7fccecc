"""Milliseconds for a picture, Prelim's worker process beside pydicom + Pillow. Called by scripts/bench-analysis.

Both read a file, decode, apply rescale and window, scale to at most 1024 px, and write a JPEG of quality 90. Prelim's
time includes the pipe to its worker. Rounds are interleaved; what counts is the median of the ratios within a round.
"""

import argparse
import copy
import io
import json
import pathlib
import statistics
import struct
import subprocess
import tempfile
import time

import data_store
import numpy
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

EDGE, QUALITY = 1024, 90


class Worker:
    """`prelim worker`, spoken to as the node does: src/worker/protocol.rs."""

    def __init__(self, prelim):
        kept = {"_RJEM_MALLOC_CONF": "oversize_threshold:0"}
        self.process = subprocess.Popen([prelim, "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=kept)
        hello, seen = b"\x00prelim-worker-1", b""
        while not seen.endswith(hello):
            seen += self.process.stdout.read(1)
        self.send({"memory_max_bytes": 2 << 30})

    def send(self, message):
        text = json.dumps(message).encode()
        self.process.stdin.write(b"PLM1" + struct.pack("<II", len(text), 0) + text)
        self.process.stdin.flush()

    def receive(self):
        out = self.process.stdout
        magic, length, blobs = struct.unpack("<4sII", out.read(12))
        assert magic == b"PLM1"
        sizes = struct.unpack(f"<{blobs}Q", out.read(8 * blobs))
        message = json.loads(out.read(length))
        return message, [out.read(size) for size in sizes]

    def ask(self, task):
        self.send(task)
        return self.receive()

    def study(self, path):
        objects = [{"object": path.name, "sop_instance_uid": "1.2.3"}]
        answer, _ = self.ask({"task": "inspect", "data": str(path.parent), "objects": objects})
        assert not answer["unreadable"], answer
        parsed = answer["parsed"][0]
        known = {"study_uid": parsed["study_uid"], "patient": parsed["patient"], "attributes": parsed["attributes"]}
        return known | {"instances": [parsed["instance"]], "unreadable": [], "inconsistencies": []}

    def picture(self, path, study):
        plan = {"slices_max": 1, "pictures_max": 1, "format": "jpeg", "edge_max_px": EDGE, "bytes_max": 5_000_000}
        task = {"task": "picture", "data": str(path.parent), "study": study, "plan": plan}
        task |= {"masks": {"rules": {}, "text_percent_max": 30, "edge_max_px": 1280}, "text_s_max": 60}
        answer, blobs = self.ask(task)
        assert len(blobs) == 1, answer
        return blobs[0]


def peer(path):
    ds = dcmread(path)
    values = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds).astype(numpy.float32)
    low, high = values.min(), values.max()
    grey = ((values - low) * (255.0 / max(high - low, 1))).astype(numpy.uint8)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    image = Image.fromarray(grey)
    image.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def make_files(folder):
    """A real CT slice (512 x 512) and a real chest X-ray continued to 10.2 MB, in each transfer syntax."""
    packages = pathlib.Path(data_store.__file__).parent / "data"
    ct = dcmread(packages / "693_UNCR.dcm")
    dx = dcmread(packages / "RG1_UNCR.dcm")
    row = dx.Columns * 2
    rows = 10_200_000 // row
    dx.PixelData = (dx.PixelData * 2)[: rows * row]
    dx.Rows = rows
    cases = {}
    for name, ds in (("ct", ct), ("dx", dx)):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        raw = folder / f"{name}-raw.dcm"
        ds.save_as(raw)
        cases[f"{name}-raw"] = raw
        for kind, syntax in (("rle", RLELossless), ("jpeg-ls", JPEGLSLossless), ("jpeg-2000", JPEG2000Lossless)):
            packed = copy.deepcopy(ds)
            packed.compress(syntax, generate_instance_uid=False)
            cases[f"{name}-{kind}"] = folder / f"{name}-{kind}.dcm"
            packed.save_as(cases[f"{name}-{kind}"])
        lossless = cases[f"{name}-jpeg-lossless"] = folder / f"{name}-jpeg-lossless.dcm"
        subprocess.run(["dcmcjpeg", "+e1", str(raw), str(lossless)], check=True)
    return cases


def milliseconds(work, times):
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) * 1e3 / times


def difference(one, other):
    """Mean difference in grey levels of two JPEGs of one image, so that both did the same work."""
    one, other = (numpy.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), dtype=float) for jpeg in (one, other))
    assert one.shape == other.shape, (one.shape, other.shape)
    return abs(one - other).mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prelim", default="target/release/prelim")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--case", action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = make_files(pathlib.Path(folder))
        cases = {name: path for name, path in cases.items() if not options.case or name in options.case}
        worker = Worker(options.prelim)
        studies = {name: worker.study(path) for name, path in cases.items()}
        off = {name: difference(worker.picture(path, studies[name]), peer(path)) for name, path in cases.items()}
        ours, theirs = {name: [] for name in cases}, {name: [] for name in cases}
        for _ in range(options.rounds):
            for name, path in cases.items():
                times = 10 if name.startswith("ct") else 3
                ours[name].append(milliseconds(lambda: worker.picture(path, studies[name]), times))
                theirs[name].append(milliseconds(lambda: peer(path), times))
        worker.process.stdin.close()
        worker.process.wait()
    print("| picture | Prelim, ms | pydicom + Pillow, ms | times faster | mean difference, grey levels |")
    print("| --- | --- | --- | --- | --- |")
    for name in cases:
        ratio = statistics.median(t / o for o, t in zip(ours[name], theirs[name]))
        ms = f"{statistics.median(ours[name]):.1f} | {statistics.median(theirs[name]):.1f}"
        print(f"| {name} | {ms} | {ratio:.2f} | {off[name]:.2f} |")


if __name__ == "__main__":
    main()
