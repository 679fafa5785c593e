// Signing for macOS: the bundle's Mach-O files in parallel, then the app as electron-builder does it.

import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { runningBuilder } from "./builder.mjs";
import { HookError } from "./errors.mjs";
import { isMachO } from "./signature.mjs";
import { VerificationError, readManifests, summary, verifyBundle } from "./verify-bundle.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SCRIPT = path.join(HERE, "sign-bundle.sh");
const LIBRARY_VALIDATION = "com.apple.security.cs.disable-library-validation";
// What electron-builder signs with where the app has no entitlements of its own.
const TEMPLATES = /[\\/]app-builder-lib[\\/]templates[\\/]/;

/**
 * Sign an app. electron-builder calls it with the identity and the keychain that it found, and with
 * how it would sign each file. Afterwards the bundle must be what it was, signatures aside.
 */
export async function sign(options, packager) {
  // electron-builder up to 26.11 calls this without an identity, newer ones then call nothing.
  if (!options.identity) return unsigned(packager, "no certificate was found");
  const root = path.join(options.app, "Contents", "Resources");
  const list = signList(root);
  const team = teamOf(options, path.join(root, listed(list)[0]));
  if (team === null) {
    say(
      `${options.identity === "-" ? "an ad-hoc signature" : "a signature by this certificate"} has no team`,
      `so that macOS would load no library: the app and its Python get the right ${LIBRARY_VALIDATION}`,
    );
  }
  const optionsForFile = withRights(options, team);
  // What must be refused is refused before anything is signed.
  for (const inside of [[], ["Contents", "Frameworks", "Helper.app"]]) {
    optionsForFile(path.join(options.app, ...inside));
  }
  const { identity, keychain, platform } = options;
  const rights = entitlements("python", platform === "mas" ? "mas" : team === null ? "no-team" : "");
  await run(SCRIPT, [root, list, identity, rights, keychain ?? ""]);
  const loaded = await runningBuilder(packager.projectDir).load("@electron/osx-sign");
  const osxSign = loaded.default ?? loaded;
  const isInBundle = bundleFiles(root);
  const ignore = (file) => Boolean(options.ignore?.(file)) || isInBundle(file);
  await (osxSign.signAsync ?? osxSign.sign)({ ...options, ignore, optionsForFile });
  say(summary(await verifyBundle(root)));
}

/**
 * Say why an app for macOS will not be signed, if so; fail as electron-builder does where that
 * must not be. It says nothing itself when a hook signs.
 */
export async function expectSignature(builder, { packager, targets, electronPlatformName }) {
  const isMas = electronPlatformName === "mas";
  const type = isMas ? targets[0].name : "mac";
  const settings = packager.getPlatformConfig?.(type).config ?? packager.platformSpecificBuildOptions;
  const { identity } = builder.major === 26 ? settings : { identity: settings.sign };
  if (typeof identity === "object" && identity !== null) {
    throw new HookError(
      "mac.sign of this app holds options, so that the hook that signs the bundle is not called",
      `electron-builder ${builder.version} takes a hook or options there, not both, and would sign each file ` +
        "of the bundle by itself, with the rights of the app",
      "take mac.sign off: the certificate comes from CSC_LINK or CSC_NAME, the app's own rights from " +
        "build/entitlements.mac.plist; an ad-hoc signature needs electron-builder 26",
    );
  }
  if (process.platform !== "darwin") return unsigned(packager, "that takes a Mac", { isForced: false });
  const { isSignAllowed } = await builder.load(
    builder.major === 26 ? "app-builder-lib/out/codeSign/macCodeSign.js" : "app-builder-lib/internal",
  );
  if (!isSignAllowed(false)) return unsigned(packager, "this is a pull request's build", { isForced: false });
  // electron-builder fails by itself where `identity` is null and signing is forced.
  if (identity === null) return unsigned(packager, "its identity is null", { isForced: false });
  // Versions up to 26.11 have no such search; they call `sign` instead.
  if (identity === "-" || !packager.helper) return undefined;
  const { keychainFile } = await packager.codeSigningInfo.value;
  // Asked as if no hook signed, so that its own words come, and its own failure.
  const found = await (builder.major === 26
    ? packager.helper.findSigningIdentity(
        isMas,
        settings.type === "development",
        identity,
        keychainFile,
        { ...settings, sign: undefined },
        false,
      )
    : packager.helper.findSigningIdentity(type, undefined, keychainFile, false, undefined));
  return found ? undefined : unsigned(packager, "no certificate was found");
}

function unsigned(packager, reason, { isForced = packager.forceCodeSigning } = {}) {
  if (isForced) {
    throw new HookError(
      "this app for macOS must be signed, and cannot be",
      `forceCodeSigning is set, and ${reason}`,
      "set CSC_LINK and CSC_KEY_PASSWORD, or CSC_NAME for a certificate of the keychain",
    );
  }
  say(
    `nothing of this app for macOS will be signed: ${reason}`,
    "why it matters: on Apple silicon macOS calls such an app damaged once it was downloaded, and does not open it",
    "next: CSC_LINK or CSC_NAME for a certificate, or mac.identity: \"-\" (electron-builder 26) for an ad-hoc " +
      "signature, which will do on your own Mac; forceCodeSigning: true makes an unsigned app a failure",
  );
}

/** Return the list of what is signed, after a look at every file: it must be exact. */
export function signList(root) {
  const { manifest, entries } = readManifests(root);
  const list = path.join(HERE, "signed", `${manifest.target}.tsv`);
  const names = new Set(fs.existsSync(list) ? listed(list) : []);
  const found = entries.map((entry) => entry.path).filter((name) => isMachO(head(path.join(root, name))));
  const differing = [
    ...found.filter((name) => !names.delete(name)).map((name) => `not listed: ${name}`),
    ...[...names].map((name) => `not there: ${name}`),
  ];
  if (differing.length > 0) {
    throw new VerificationError(
      `${list} was not made for the bundle in ${root}`,
      differing.join("\n    "),
      "python3 build electron --output FOLDER, with this bundle",
    );
  }
  return list;
}

function listed(list) {
  return fs
    .readFileSync(list, "utf8")
    .split("\n")
    .filter(Boolean)
    .map((row) => row.split("\t")[3]);
}

function head(file) {
  const buffer = Buffer.alloc(8);
  const descriptor = fs.openSync(file, "r");
  try {
    return buffer.subarray(0, fs.readSync(descriptor, buffer, 0, 8, 0));
  } finally {
    fs.closeSync(descriptor);
  }
}

/**
 * Return the team that signatures by an identity name, or null: ad-hoc and self-signed ones have
 * none. Asks codesign, with a copy of `sample`, since names and certificates can say anything.
 */
function teamOf({ identity, keychain }, sample) {
  if (identity === "-") return null;
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sidecar-team-"));
  try {
    const copy = path.join(folder, path.basename(sample));
    fs.copyFileSync(sample, copy);
    const where = keychain ? ["--keychain", keychain] : [];
    codesign("--force", "--sign", identity, "--timestamp=none", ...where, copy);
    const team = /^TeamIdentifier=(.+)$/m.exec(codesign("--display", "--verbose=2", copy))?.[1];
    return team === undefined || team === "not set" ? null : team;
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/** Run codesign and return what it says, which it does on standard error. */
function codesign(...given) {
  const { error, status, stderr } = spawnSync("codesign", given, { encoding: "utf8" });
  if (status === 0) return stderr;
  throw new HookError(
    "nothing can be signed with the identity that electron-builder found",
    error?.message ?? stderr.trim(),
    "look at it with `security find-identity -v -p codesigning`; is its keychain unlocked?",
  );
}

/**
 * Return how each file is signed: as electron-builder would, with our rights where the app has none
 * of its own. For the Mac App Store an app must have them.
 */
function withRights(options, team) {
  const ours = entitlements("app", team === null ? "no-team" : "");
  return (file) => {
    const given = options.optionsForFile?.(file) ?? {};
    if (options.platform === "mas") return given;
    const isOwn = Boolean(given.entitlements) && !TEMPLATES.test(given.entitlements);
    const chosen = isOwn ? given.entitlements : ours;
    if (team === null && given.hardenedRuntime !== false && !grants(chosen, LIBRARY_VALIDATION)) {
      throw new HookError(
        `an app signed with ${chosen} would not start`,
        `the signature has no team, so that macOS takes its own libraries for somebody else's, and the file ` +
          `does not grant ${LIBRARY_VALIDATION}`,
        "add that right, leave the choice of entitlements to the sidecar's hooks, or sign with a Developer ID",
      );
    }
    return { ...given, entitlements: chosen };
  };
}

function grants(file, right) {
  const text = fs.readFileSync(file, "utf8");
  return new RegExp(`<key>\\s*${right.replaceAll(".", "\\.")}\\s*</key>\\s*<true\\s*/>`).test(text);
}

function entitlements(what, kind) {
  return path.join(HERE, `entitlements.${what}.${kind ? `${kind}.` : ""}plist`);
}

/**
 * Return a function that says whether a file belongs to the bundle in `root`. electron-builder's
 * signer would sign each that looks binary, bytecode and weights included, one after the other.
 */
function bundleFiles(root) {
  const { lists, entries } = readManifests(root);
  const names = [...lists, ...entries.map((entry) => entry.path)];
  const tops = new Set(names.map((name) => name.split("/")[0]));
  return (file) => tops.has(path.relative(root, file).split(path.sep)[0]);
}

function run(program, given) {
  return new Promise((resolve, reject) => {
    const child = spawn("/bin/sh", [program, ...given], { stdio: "inherit" });
    child.once("error", reject);
    child.once("exit", (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`${path.basename(program)} ended with ${code ?? signal}`)),
    );
  });
}

function say(line, ...more) {
  process.stdout.write(`  • ${[line, ...more].join("\n    ")}\n`);
}
