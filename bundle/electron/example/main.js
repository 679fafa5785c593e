// @ts-nocheck Electron brings its own types to an app that has it.
/** The example as an Electron app. All it does itself is the window; the rest is in app.js. */

import { app, BrowserWindow, shell } from 'electron';

import { startApp } from './app.js';

// In development Electron has no bundle among its resources: SIDECAR_BUNDLE names one.
const resources = app.isPackaged ? process.resourcesPath : process.env.SIDECAR_BUNDLE;
const isFirst = app.requestSingleInstanceLock();
if (!isFirst) app.quit();

/** @type {Awaited<ReturnType<typeof startApp>> | undefined} */
let running;
let isStopped = false;

function open() {
  if (!running) return;
  const { url } = running;
  const window = new BrowserWindow({
    width: 980,
    height: 820,
    minWidth: 420,
    minHeight: 480,
    webPreferences: { contextIsolation: true, nodeIntegration: false, sandbox: true },
  });
  // The window shows this page and nothing else.
  window.webContents.on('will-navigate', (event, target) => {
    if (!target.startsWith(url)) event.preventDefault();
  });
  window.webContents.setWindowOpenHandler(({ url: target }) => {
    if (target.startsWith('https:')) void shell.openExternal(target);
    return { action: 'deny' };
  });
  void window.loadURL(url);
}

app.on('window-all-closed', () => {
  if (process.platform !== 'darwin') app.quit();
});
app.on('activate', () => {
  if (BrowserWindow.getAllWindows().length === 0) open();
});
app.on('before-quit', (event) => {
  // On macOS a logout would be called off; the sidecar ends with the app by itself.
  if (process.platform === 'darwin' || isStopped || !running) return;
  event.preventDefault();
  void running.stop().finally(() => {
    isStopped = true;
    app.quit();
  });
});

async function start() {
  await app.whenReady();
  running = await startApp({ ...(resources ? { resources } : {}) });
  open();
}
// Not awaited: Electron is not ready before its main module has run to the end.
if (isFirst) void start();
