// A headless Chromium that is on this machine; nothing is downloaded for it.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const require = createRequire(import.meta.url);

export function obstacle() {
  try {
    require.resolve('playwright-core');
  } catch {
    return 'playwright-core is not installed here: npm ci';
  }
  return executable() ? false : 'there is no Chromium here; CHROMIUM names one';
}

function executable() {
  return [process.env.CHROMIUM ?? '', ...PLACES].find((path) => path && existsSync(path));
}

export async function launch() {
  const { chromium } = await import('playwright-core');
  // In a container and as root there is no sandbox of Chromium's own; it shows our page alone.
  const args = process.getuid?.() === 0 ? ['--no-sandbox', '--disable-dev-shm-usage'] : [];
  return chromium.launch({ executablePath: executable(), args });
}
