// What OHIF makes of our structured reports, by its own adapters: every region of a file has to
// become an annotation of the same finding (tracking UID) on the same frame with the same corners.
// hydrate.mjs FILE...; exit 1 when one does not.
// Needs the packages of tests/peers/package.json, installed into target/npm (scripts/test).
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import fs from "node:fs";
import path from "node:path";

// It says on the console what it passes over: groups without a region.
console.warn = () => {};

const repository = path.resolve(path.dirname(new URL(import.meta.url).pathname), "../..");
const modules = createRequire(path.join(repository, "target/npm/package.json"));
const dcmjs = modules("dcmjs");
const installed = path.join(repository, "target/npm/node_modules/@cornerstonejs");
const load = (file) => import(pathToFileURL(path.join(installed, file)).href);
const { metaData } = await load("core/dist/esm/index.js");
const { adaptersSR } = await load("adapters/dist/esm/index.js");
const { MeasurementReport } = adaptersSR.Cornerstone3D;

const all = (value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]);
const children = (item) => all(item.ContentSequence);
const code = (item) => all(item.ConceptNameCodeSequence)[0]?.CodeValue;

function* items(item) {
  yield item;
  for (const child of children(item)) yield* items(child);
}

const corners = (points) => points.map((point) => `${point[0].toFixed(1)}/${point[1].toFixed(1)}`).sort().join(" ");

// Tracking UID, frame and corners of each region.
function regions(dataset) {
  const found = [];
  for (const group of items(dataset)) {
    if (code(group) !== "125007") continue;
    const tracking = children(group).find((item) => code(item) === "112040").UID;
    for (const region of children(group).filter((item) => code(item) === "111030")) {
      const image = all(children(region)[0].ReferencedSOPSequence)[0];
      const data = region.GraphicData;
      const points = [0, 2, 4, 6].map((at) => [data[at], data[at + 1]]);
      const frame = image.ReferencedFrameNumber ?? 1;
      found.push(`${tracking} ${image.ReferencedSOPInstanceUID}:${frame} ${corners(points)}`);
    }
  }
  return found.sort();
}

// An annotation in the words of a region. World coordinates are pixels, see the plane below.
function region(made) {
  const { metadata, data } = made.annotation;
  return `${made.TrackingUniqueIdentifier} ${metadata.referencedImageId} ${corners(data.handles.points)}`;
}

// Every frame is known, one millimetre for a pixel; a world coordinate is where a pixel's centre is.
const imageIds = new Proxy({}, { get: (_, frame) => String(frame) });
const plane = {
  frameOfReferenceUID: "1.2.3",
  rowCosines: [1, 0, 0],
  columnCosines: [0, 1, 0],
  rowPixelSpacing: 1,
  columnPixelSpacing: 1,
  imagePositionPatient: [0.5, 0.5, 0],
};
metaData.addProvider((kind) => (kind === "imagePlaneModule" ? plane : undefined));
let failed = false;
for (const file of process.argv.slice(2)) {
  const bytes = fs.readFileSync(file);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const dataset = dcmjs.data.DicomMetaDictionary.naturalizeDataset(dcmjs.data.DicomMessage.readFile(buffer).dict);
  const expected = regions(dataset);
  const made = expected.length > 0 ? MeasurementReport.generateToolState(dataset, imageIds, metaData) : {};
  const shown = Object.values(made).flat().map(region).sort();
  const ok = JSON.stringify(shown) === JSON.stringify(expected);
  failed ||= !ok;
  console.log(`${ok ? "ok  " : "FAIL"} ${file}: ${shown.length} of ${expected.length} regions (${Object.keys(made)})`);
  if (!ok) console.log(`     sent  ${expected.join("\n           ")}\n     shown ${shown.join("\n           ")}`);
}
process.exit(failed ? 1 : 0);
