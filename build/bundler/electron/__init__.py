"""What an Electron app takes over, so that electron-builder packs, signs and checks a bundle."""
