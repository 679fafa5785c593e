// Write an empty Windows program with a version, which electron-builder can edit.
//   node program.cjs NODE_MODULES FILE
const fs = require("node:fs");
const { createRequire } = require("node:module");

const [modules, file] = process.argv.slice(2);
const from = createRequire(`${modules}/app-builder-lib/package.json`);
const { Resource } = from("resedit");
const { NtExecutable, NtExecutableResource } = createRequire(from.resolve("resedit"))("pe-library");

const program = NtExecutable.createEmpty(false, false);
const resources = NtExecutableResource.from(program);
const version = Resource.VersionInfo.createEmpty();
version.setFileVersion(1, 0, 0, 0);
version.outputToResourceEntries(resources.entries);
resources.outputResource(program);
fs.writeFileSync(file, Buffer.from(program.generate()));
