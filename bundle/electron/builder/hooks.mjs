// What electron-builder calls: afterPack verifies the copied bundle, sign signs it on a Mac.
//
// If your configuration has hooks of its own, call these from them:
//   import { afterPack as verifySidecar } from "./sidecar/hooks.mjs";

import { runningBuilder } from "./builder.mjs";
import { expectSignature } from "./mac-signing.mjs";
import { VerificationError, readManifests, summary, verifyBundle } from "./verify-bundle.mjs";

export { sign } from "./mac-signing.mjs";

// electron-builder's enumeration `Arch`, which hooks get as a number.
const ARCHITECTURES = ["ia32", "x64", "armv7l", "arm64", "universal"];

/**
 * Fail the build unless this electron-builder is a known one and the bundle was copied whole, and is
 * the one for this platform. Say so where an app for macOS will not be signed.
 */
export async function afterPack(context) {
  const { packager, appOutDir, arch } = context;
  const builder = runningBuilder(packager.projectDir);
  const root = packager.getResourcesDir(appOutDir);
  const system = packager.platform.buildConfigurationKey;
  const expected = `${system}-${ARCHITECTURES[arch]}`;
  const { target } = readManifests(root).manifest;
  if (target !== expected) {
    throw new VerificationError(
      `the sidecar bundle in ${root} is for another machine`,
      `it is for ${target}, the app is for ${expected}`,
      `python3 build assemble --target ${expected}, and give it a folder of that name`,
    );
  }
  process.stdout.write(`  • ${summary(await verifyBundle(root))}\n`);
  if (system === "mac") await expectSignature(builder, context);
}
