import assert from 'node:assert/strict';
import test from 'node:test';

import { progressOf } from '../src/events.js';
import { Lines } from '../src/lines.js';

function linesOf(parts, longest) {
  const lines = new Lines(longest);
  const found = parts.flatMap((part) => lines.push(Buffer.from(part)));
  return [...found, lines.end()];
}

test('lines are the same however the bytes were cut, inside a character too', () => {
  const text = 'eins\r\nzwei é€😀\n\ndrei';
  const bytes = Buffer.from(text);
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const found = linesOf([bytes.subarray(0, cut), bytes.subarray(cut)]);
    assert.deepEqual(found, ['eins', 'zwei é€😀', '', 'drei']);
  }
  assert.deepEqual(linesOf([...bytes].map((byte) => Buffer.from([byte]))), [
    ...['eins', 'zwei é€😀', '', 'drei'],
  ]);
});

test('a line without an end does not fill the memory, and the next one is read', () => {
  const lines = new Lines(10);
  assert.deepEqual(lines.push(Buffer.from('x'.repeat(11))), []);
  assert.deepEqual(lines.push(Buffer.from('x'.repeat(1 << 20))), []);
  assert.deepEqual(lines.push(Buffer.from('\nshort\n')), ['short']);
});

test('an event is read from its line', () => {
  assert.deepEqual(progressOf('PROGRESS:{"type":"ready","data":{"port":1}}'), {
    type: 'ready',
    data: { port: 1 },
  });
  assert.deepEqual(progressOf('PROGRESS:{"type":"later"}'), { type: 'later', data: {} });
});

for (const line of [
  '',
  'PROGRESS:',
  'PROGRESS:{',
  'PROGRESS:null',
  'PROGRESS:[1]',
  'PROGRESS:{"type":7}',
  ' PROGRESS:{"type":"ready","data":{}}',
  'Loading weights: 100%',
]) {
  test(`no event is read from ${JSON.stringify(line)}`, () => {
    assert.equal(progressOf(line), undefined);
  });
}
