// Let electron-builder take this machine for a Mac, as far as signing goes, with the programs that
// lie beside this file.  node --require pretend.cjs PROGRAM
"use strict";
const child = require("node:child_process");
const os = require("node:os");
const path = require("node:path");

Object.defineProperty(process, "platform", { value: "darwin" });
os.release = () => "24.6.0";
process.env.PATH = `${__dirname}${path.delimiter}${process.env.PATH}`;
const { execFile } = child;
child.execFile = (file, ...rest) =>
  execFile(file === "/usr/bin/security" ? path.join(__dirname, "security") : file, ...rest);
