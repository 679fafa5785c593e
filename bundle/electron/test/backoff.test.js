import assert from 'node:assert/strict';
import test from 'node:test';

import { Backoff } from '../src/backoff.js';

const MINUTE = 60_000;

function clocked(options = {}) {
  const clock = { now: 0 };
  const backoff = new Backoff({ random: () => 0.5, now: () => clock.now, ...options });
  return { clock, backoff };
}

test('waits double from one second, and the fifth crash in three minutes is the last', () => {
  const { clock, backoff } = clocked();
  const waits = [];
  for (let crash = 0; crash < 5; crash += 1) {
    clock.now += 10_000;
    waits.push(backoff.crashed(1000));
  }
  assert.deepEqual(waits, [1000, 2000, 4000, 8000, undefined]);
});

test('crashes that are further apart never end it, and waits stay at sixteen seconds', () => {
  const { clock, backoff } = clocked();
  const waits = [];
  for (let crash = 0; crash < 20; crash += 1) {
    clock.now += MINUTE;
    waits.push(backoff.crashed(50_000));
  }
  assert.deepEqual(waits.slice(0, 5), [1000, 2000, 4000, 8000, 16_000]);
  assert.deepEqual(new Set(waits.slice(5)), new Set([16_000]));
});

test('five starts in a row that never become ready are enough, however long they take', () => {
  const { clock, backoff } = clocked();
  const waits = [];
  for (let crash = 0; crash < 5; crash += 1) {
    clock.now += 2 * MINUTE;
    waits.push(backoff.crashed(undefined));
  }
  assert.equal(waits.at(-1), undefined);
  assert.equal(waits.slice(0, -1).includes(undefined), false);
});

test('a service that ran well for three minutes begins at one second again', () => {
  const { clock, backoff } = clocked();
  for (let crash = 0; crash < 3; crash += 1) backoff.crashed(1000);
  clock.now += 10 * MINUTE;
  assert.equal(backoff.crashed(9 * MINUTE), 1000);
});

test('waits are spread by a quarter to each side', () => {
  const least = new Backoff({ random: () => 0, now: () => 0 });
  const most = new Backoff({ random: () => 1, now: () => 0 });
  assert.equal(least.crashed(0), 750);
  assert.equal(most.crashed(0), 1250);
});

test('who asks for a restart gets all attempts again', () => {
  const { backoff } = clocked();
  for (let crash = 0; crash < 5; crash += 1) backoff.crashed(undefined);
  assert.equal(backoff.crashes, 5);
  backoff.forget();
  assert.equal(backoff.crashes, 0);
  assert.equal(backoff.crashed(undefined), 1000);
});
