"""A program that reads, for `kind = "command"`: reader.py MODE [FOLDER]

MODE says how it answers:
  read      a chest X-ray with a pneumothorax, in answer.json; what it was given goes to FOLDER/seen.json
  stdout    the same on standard output
  masks     a disc as a mask (centre at 0.65 and 0.3, radius 0.1 of the height), and one that does not fit its picture
  crash     status 3, with words on standard error
  abort     ended by a signal
  hang      for ever, with a child that its own group has; their numbers go to FOLDER/pids
  memory    more than it may have
  flood     output without end
  file      an answer.json without end
  prose     words that are no reading; counts in FOLDER/asked
  nothing   status 0 and not a word
  busy-once status 75 the first time (FOLDER/asked), then the reading
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time

mode, folder = sys.argv[1], pathlib.Path((sys.argv + [""])[2])


def reading():
    request = json.loads(pathlib.Path("request.json").read_text())
    keys = request["schema"]["properties"]["findings"]["items"]["properties"]["key"]["enum"]
    none = {"name": "", "presence": "absent", "probability": 0.02, "laterality": "none", "severity": "none", "site": "",
            "description": "", "pictures": [], "boxes": [], "measurements": [], "differential": [], "recommendation": "",
            "urgency": "routine"}
    number = request["pictures"][0]["number"]
    found = {"presence": "present", "probability": 0.9, "laterality": "left", "description": "A pleural line at the apex.",
             "pictures": [number], "boxes": [{"picture": number, "x0": 0.5, "y0": 0.1, "x1": 0.8, "y1": 0.4}]}
    findings = [{"key": key} | none | (found if key == "pneumothorax" else {}) for key in keys if key != "other"]
    return {"findings": findings, "impression": "Left pneumothorax.", "recommendation": "",
            "image_quality": {"usable": "good", "remarks": ""}, "urgency": "routine", "confidence": 0.9}


def disc(picture):
    """Runs of the pixels whose centre lies in the disc."""
    width, height = picture["width_px"], picture["height_px"]
    counts, at = [], 0
    for y in range(height):
        inside = [x for x in range(width) if (x + 0.5 - 0.65 * width) ** 2 + (y + 0.5 - 0.3 * height) ** 2 < (0.1 * height) ** 2]
        if inside:
            start = y * width + inside[0]
            counts += [start - at, len(inside)]
            at = start + len(inside)
    return counts + [width * height - at]


def drawn():
    pictures = json.loads(pathlib.Path("request.json").read_text())["pictures"]
    answer = reading()
    first = next((one for one in answer["findings"] if one["key"] == "pneumothorax"), answer["findings"][0])
    masks = [{"picture": pictures[0]["number"], "counts": counts} for counts in (disc(pictures[0]), [1, 2, 3])]
    first |= {"presence": "present", "probability": 0.9, "pictures": [pictures[0]["number"]], "boxes": [], "masks": masks}
    return answer


def asked():
    with open(folder / "asked", "a+") as file:
        file.write("x")
        return file.tell()


if mode == "read":
    here = pathlib.Path.cwd()
    limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in ("AS", "CPU", "FSIZE", "CORE")}
    files = {path.name: path.stat().st_size for path in here.iterdir()}
    group = os.getpgid(0) == os.getpid()
    seen = {"environment": dict(os.environ), "files": files, "mode": oct(here.stat().st_mode), "folder": str(here), "limits": limits,
            "leads": group, "stdin": sys.stdin.read(), "request": json.loads(pathlib.Path("request.json").read_text())}
    (folder / "seen.json").write_text(json.dumps(seen))
    print("words beside the answer")
    pathlib.Path("answer.json").write_text(json.dumps(reading()))
elif mode == "stdout":
    print(json.dumps(reading()))
elif mode == "masks":
    print(json.dumps(drawn()))
elif mode == "crash":
    print("loading\n" * 100_000, file=sys.stderr)
    print("the weights are gone", file=sys.stderr)
    sys.exit(3)
elif mode == "abort":
    os.abort()
elif mode == "hang":
    child = subprocess.Popen(["sleep", "600"])
    (folder / "pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
elif mode == "memory":
    bytearray(8 << 30)
elif mode == "flood":
    while True:
        sys.stdout.write("x" * 65536)
elif mode == "file":
    pathlib.Path("answer.json").write_text("x" * 50_000_000)
elif mode == "prose":
    asked()
    print("I see a chest and nothing to worry about.")
elif mode == "busy-once":
    if asked() == 1:
        sys.exit(75)
    print(json.dumps(reading()))
