// Stand in for signtool: give a program a certificate table, which holds no certificate, in place
// of the one it has. It is called once for each kind of digest.
const fs = require("node:fs");

exports.sign = async ({ path: file }) => {
  const data = fs.readFileSync(file);
  const optional = data.readUInt32LE(60) + 24;
  const certificates = optional + (data.readUInt16LE(optional) === 0x20b ? 112 : 96) + 32;
  const code = data.subarray(0, data.readUInt32LE(certificates) || data.length);
  const padded = Buffer.concat([code, Buffer.alloc(-code.length & 7)]);
  const table = Buffer.alloc(64, 7);
  padded.writeUInt32LE(padded.length, certificates);
  padded.writeUInt32LE(table.length, certificates + 4);
  padded.writeUInt32LE(0xfeedbeef, optional + 64);
  fs.writeFileSync(file, Buffer.concat([padded, table]));
};
