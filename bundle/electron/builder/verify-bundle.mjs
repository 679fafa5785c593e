// Whether a copied bundle is what its manifests say, file by file. Plain Node 18, no dependencies.
//
//   node verify-bundle.mjs DIR [--whole] [--signed LIST.tsv] [--jobs N] [--json]
//
// DIR holds manifest.json: a bundle, or the resources folder of a packaged app. The bundle's own
// folders may hold nothing that the manifests do not list; with --whole that goes for DIR too.
// Exit codes: 0 it is so, 2 usage, 8 it is not.

import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

import { HookError } from "./errors.mjs";
import { codeDigest } from "./signature.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SCHEMA = 1;
const CHUNK_BYTES = 1 << 20;
const MOST_JOBS = 8;
const MOST_SHOWN = 20;
const USAGE = 2;
const FAILED = 8;

/** The tree is not what its manifests say; `damages` has each difference, `exitCode` is 8. */
export class VerificationError extends HookError {
  name = "VerificationError";
  exitCode = FAILED;

  constructor(what, why, next, damages = []) {
    super(what, why, next);
    this.damages = damages;
  }
}

/**
 * Return what was compared: { manifest, files, bytes, signed, seconds }; `signed` counts the files
 * whose signature alone is another one. Throws VerificationError naming what differs.
 *
 * What packaging changes is passed over: dates, read and write permissions, hard links, folders
 * without files. `signed` is a list of files that may be signed anew, as `python3 build electron`
 * writes it; without one, the list beside this file that is for the bundle's target.
 */
export async function verifyBundle(root, { whole = false, signed, jobs } = {}) {
  const started = process.hrtime.bigint();
  const { manifest, lists, entries } = readManifests(root);
  const codes = readSigned(signed ?? path.join(HERE, "signed", `${manifest.target}.tsv`), signed);
  const checked = await compare(root, entries, codes, jobs ?? defaultJobs());
  const damages = [...checked.damages, ...strays(root, entries, lists, whole)];
  if (damages.length > 0) {
    throw new VerificationError(
      `the sidecar bundle in ${root} differs from its manifest in ${damages.length} places`,
      told(damages),
      advice(damages, manifest),
      damages,
    );
  }
  return {
    manifest,
    files: entries.length,
    bytes: entries.reduce((sum, entry) => sum + entry.size, 0),
    signed: checked.signed,
    seconds: Number(process.hrtime.bigint() - started) / 1e9,
  };
}

/** Return the manifest and every file it lists. Throws VerificationError if one is unreadable. */
export function readManifests(root) {
  const read = (name) => {
    try {
      return fs.readFileSync(path.join(root, name));
    } catch (error) {
      throw new VerificationError(
        `there is no sidecar bundle in ${root}`,
        `${name} cannot be read: ${error.code}`,
        "look at extraResources in your configuration: `from` must lead to an assembled bundle, " +
          "and your own extraResources for the same platform replace those of electron-builder.yml",
      );
    }
  };
  const broken = (name, why) =>
    new VerificationError(`${name} in ${root} cannot be used`, why, "python3 build assemble");
  const manifest = parsed(read("manifest.json"), "manifest.json", broken);
  if (manifest.schema !== SCHEMA) {
    throw broken("manifest.json", `it has schema ${manifest.schema}, this program reads ${SCHEMA}`);
  }
  const lists = ["manifest.json"];
  const entries = [...manifest.documents];
  for (const component of manifest.components) {
    const name = `manifests/${component.name}.json`;
    const data = read(name);
    if (createHash("sha256").update(data).digest("hex") !== component.digest) {
      throw broken(name, "it is not the list that manifest.json names");
    }
    lists.push(name);
    for (const [file, mode, size, sha256] of parsed(data, name, broken)) {
      entries.push({ path: file, mode: parseInt(mode, 8), size, sha256 });
    }
  }
  const outside = entries.find((entry) => !isInside(entry.path));
  if (outside) throw broken("manifest.json", `it names a path outside: ${outside.path}`);
  return { manifest, lists, entries };
}

function parsed(data, name, broken) {
  try {
    return JSON.parse(data.toString("utf8"));
  } catch (error) {
    throw broken(name, error.message);
  }
}

function isInside(file) {
  return !/[\\:\0]/.test(file) && file.split("/").every((part) => !["", ".", ".."].includes(part));
}

/** Return the digest without signature of each file of a list, by path and sha256. */
function readSigned(file, isAsked) {
  if (!isAsked && !fs.existsSync(file)) return {};
  const rows = fs.readFileSync(file, "utf8").split("\n").filter(Boolean);
  return Object.fromEntries(
    rows.map((row) => {
      const [, sha256, code, name] = row.split("\t");
      return [name, { sha256, code }];
    }),
  );
}

function defaultJobs() {
  return Math.min(os.availableParallelism?.() ?? os.cpus().length, MOST_JOBS);
}

/** Compare every entry, in as many threads as `jobs`, each with an equal share of the bytes. */
async function compare(root, entries, codes, jobs) {
  const shares = Array.from({ length: jobs }, () => ({ bytes: 0, entries: [] }));
  for (const entry of [...entries].sort((one, other) => other.size - one.size)) {
    const least = shares.reduce((best, share) => (share.bytes < best.bytes ? share : best));
    least.bytes += entry.size + 4096;
    least.entries.push(entry);
  }
  const answers = await Promise.all(
    shares.filter((share) => share.entries.length > 0).map(
      (share) =>
        new Promise((resolve, reject) => {
          const data = { root, entries: share.entries, codes };
          const worker = new Worker(new URL(import.meta.url), { workerData: { verify: data } });
          worker.once("message", resolve);
          worker.once("error", reject);
          worker.once("exit", (code) => reject(new Error(`a worker ended with ${code}`)));
        }),
    ),
  );
  const damages = answers.flatMap((answer) => answer.damages);
  damages.sort((one, other) => (one.path < other.path ? -1 : 1));
  return { damages, signed: answers.reduce((sum, answer) => sum + answer.signed, 0) };
}

function compareShare({ root, entries, codes }) {
  const damages = [];
  let signed = 0;
  const buffer = Buffer.alloc(CHUNK_BYTES);
  for (const entry of entries) {
    const file = path.join(root, entry.path);
    const damage = differenceOf(file, entry, buffer);
    if (!damage) continue;
    const code = codes[entry.path];
    const mayDiffer = damage.kind === "changed" && code?.sha256 === entry.sha256;
    if (mayDiffer && codeDigest(fs.readFileSync(file)) === code.code) signed += 1;
    else damages.push({ path: entry.path, ...damage });
  }
  return { damages, signed };
}

function differenceOf(file, entry, buffer) {
  let status;
  try {
    status = fs.lstatSync(file);
  } catch {
    return { kind: "missing", detail: "" };
  }
  if (!status.isFile()) return { kind: "link", detail: "not a regular file" };
  if (process.platform !== "win32" && Boolean(status.mode & 0o100) !== Boolean(entry.mode & 0o100)) {
    const detail = entry.mode & 0o100 ? "it is not executable" : "it is executable";
    return { kind: "mode", detail };
  }
  if (status.size !== entry.size) {
    return { kind: "changed", detail: `${status.size} bytes instead of ${entry.size}` };
  }
  try {
    const actual = fileDigest(file, buffer);
    if (actual === entry.sha256) return null;
    return { kind: "changed", detail: `sha256 ${actual} instead of ${entry.sha256}` };
  } catch (error) {
    return { kind: "unreadable", detail: error.code };
  }
}

function fileDigest(file, buffer) {
  const hash = createHash("sha256");
  const descriptor = fs.openSync(file, "r");
  try {
    for (;;) {
      const count = fs.readSync(descriptor, buffer, 0, buffer.length, null);
      if (count === 0) return hash.digest("hex");
      hash.update(buffer.subarray(0, count));
    }
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Return what lies in the bundle's folders, or with `whole` in the root, and is not listed. */
function strays(root, entries, lists, whole) {
  const known = new Set([...lists, ...entries.map((entry) => entry.path)]);
  const folders = new Set([...known].filter((name) => name.includes("/")).map((name) => name.split("/")[0]));
  const found = [];
  const walk = (folder) => {
    let names;
    try {
      names = fs.readdirSync(path.join(root, folder), { withFileTypes: true });
    } catch {
      return; // its files are missing, which is told
    }
    for (const name of names) {
      const inside = folder ? `${folder}/${name.name}` : name.name;
      if (name.isDirectory()) walk(inside);
      else if (!known.has(inside)) found.push({ kind: "extra", path: inside, detail: "" });
    }
  };
  for (const folder of whole ? [""] : folders) walk(folder);
  return found.sort((one, other) => (one.path < other.path ? -1 : 1));
}

function told(damages) {
  const lines = damages.slice(0, MOST_SHOWN).map(({ kind, path: name, detail }) =>
    `${kind}: ${name}${detail ? ` (${detail})` : ""}`,
  );
  const more = damages.length - lines.length;
  return [...lines, ...(more > 0 ? [`and ${more} more`] : [])].join("\n    ");
}

function advice(damages, manifest) {
  const has = (kind, pattern = /./) => damages.some((one) => one.kind === kind && pattern.test(one.path));
  const found = [];
  if (has("missing", /\.pyc$/)) {
    found.push("take filters such as !**/*.pyc off extraResources: bytecode belongs to the bundle");
  } else if (has("missing")) {
    found.push("take every `filter` off the bundle's extraResources, and package again");
  }
  if (has("extra", /\.pyc$/)) {
    found.push("something ran the bundle's Python without -I -B; assemble it again, then package");
  } else if (has("extra")) {
    found.push("empty the output folder; let nothing else write into the bundle's folders");
  }
  if (has("mode")) found.push("keep modes when the bundle is moved: tar or rsync -a, no zip, no upload of files");
  if (has("changed") || has("unreadable") || has("link")) {
    found.push(
      "check the bundle it was copied from with `python3 build verify`; if only a signature is new, " +
        "run `python3 build electron` again for this very bundle",
    );
  }
  return `${found.join(";\n    ")}\n    (bundle: ${manifest.target} ${manifest.version}, plan ${manifest.plan.slice(0, 12)})`;
}

async function main(given) {
  const options = {};
  const paths = [];
  let json = false;
  for (let at = 0; at < given.length; at += 1) {
    if (given[at] === "--whole") options.whole = true;
    else if (given[at] === "--json") json = true;
    else if (given[at] === "--signed") options.signed = given[(at += 1)];
    else if (given[at] === "--jobs") options.jobs = Number(given[(at += 1)]);
    else paths.push(given[at]);
  }
  if (paths.length !== 1 || paths[0].startsWith("-") || !(options.jobs === undefined || options.jobs > 0)) {
    process.stderr.write("usage: node verify-bundle.mjs DIR [--whole] [--signed LIST.tsv] [--jobs N] [--json]\n");
    return USAGE;
  }
  try {
    const seen = await verifyBundle(path.resolve(paths[0]), options);
    const { target, version, plan } = seen.manifest;
    if (json) {
      const { manifest: _, ...figures } = seen;
      process.stdout.write(`${JSON.stringify({ target, version, plan, ...figures })}\n`);
    } else {
      process.stdout.write(`${summary(seen)}\n`);
    }
    return 0;
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    process.stderr.write(`error: ${error.message}\n`);
    return FAILED;
  }
}

/** Return what was compared, in one line. */
export function summary({ manifest, files, bytes, signed, seconds }) {
  const resigned = signed > 0 ? `, ${signed} of them signed anew` : "";
  return (
    `sidecar verified: ${files} files, ${Math.round(bytes / 1e6)} MB${resigned}, ` +
    `${manifest.target} ${manifest.version}, plan ${manifest.plan.slice(0, 12)}, ${seconds.toFixed(1)} s`
  );
}

/** Return whether it is this file that Node was started with: of `node scripts/pack` the name leads to none. */
function isProgram(started) {
  const file = fileURLToPath(import.meta.url);
  return fs.existsSync(started ?? "") && fs.realpathSync(started) === file;
}

if (!isMainThread && workerData?.verify) {
  parentPort.postMessage(compareShare(workerData.verify));
} else if (isMainThread && isProgram(process.argv[1])) {
  process.exitCode = await main(process.argv.slice(2));
}
