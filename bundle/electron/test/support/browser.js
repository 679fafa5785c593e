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

// In the page: texts whose contrast with what is behind them is below 4.5 to 1.
export function pale() {
  const painter = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    painter.clearRect(0, 0, 1, 1);
    painter.fillStyle = colour;
    painter.fillRect(0, 0, 1, 1);
    return [...painter.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = rgba(colour).map((part) => {
      const x = part / 255;
      return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return 'white';
  };
  const texts = [...document.querySelectorAll('h1, h2, p, li, strong, span, dt, dd, label, button, code')];
  return texts
    .filter((element) => element.checkVisibility() && element.textContent.trim() !== '')
    .filter((element) => {
      const ink = light(getComputedStyle(element).color);
      const ground = light(behind(element));
      return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05) < 4.5;
    })
    .map((element) => `${element.tagName} ${element.id} ${element.textContent.slice(0, 30)}`);
}

// In the page: whatever stands out to the side, or has text that does not fit and is not scrolled.
export function spilled() {
  const width = document.documentElement.clientWidth;
  return [...document.querySelectorAll('body *')]
    .filter((element) => element.checkVisibility())
    .filter((element) => {
      const box = element.getBoundingClientRect();
      const isScrolled = getComputedStyle(element).overflowX === 'auto';
      const isCut = !isScrolled && element.scrollWidth > element.clientWidth + 1;
      return box.left < -1 || box.right > width + 1 || isCut;
    })
    .filter((element) => getComputedStyle(element).display !== 'inline')
    .map((element) => `${element.tagName} ${element.id}`);
}
