// Print what @electron/osx-sign would sign in an app: all, and what no expression ignores.
//   node walked.cjs NODE_MODULES APP EXPRESSION…
const { createRequire } = require("node:module");

const [modules, app, ...ignored] = process.argv.slice(2);
const from = createRequire(`${modules}/app-builder-lib/package.json`);
const { walkAsync } = from("@electron/osx-sign/dist/cjs/util.js");

walkAsync(`${app}/Contents`).then((found) => {
  const expressions = ignored.map((text) => new RegExp(text));
  const left = found.filter((file) => !expressions.some((one) => one.test(file)));
  process.stdout.write(JSON.stringify({ all: found.length, left: left.map((file) => file.slice(app.length)) }));
});
