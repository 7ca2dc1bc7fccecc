// Checks the resources of FHIR R4 bundles with the npm package `fhir`, which knows the codes that a
// status may have. Prints one line for each fault; exit code 1 when there is one.
//
//     NODE_PATH=target/npm/node_modules node check_fhir.cjs FILE...

const fs = require("fs");
const { Fhir } = require("fhir/fhir");

const validator = new Fhir();
let faults = 0;
for (const name of process.argv.slice(2)) {
    for (const { resource } of JSON.parse(fs.readFileSync(name, "utf8")).entry) {
        const said = validator.validate(resource, { errorOnUnexpected: true });
        for (const one of said.messages) {
            if (one.severity === "info" || one.severity === "warning") continue;
            faults += 1;
            console.log(`FAIL ${name}: fhir: ${one.location}: ${one.message}`);
        }
    }
}
process.exit(faults ? 1 : 0);
