// Never run: electron-builder packs it.
