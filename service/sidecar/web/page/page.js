// Asks the service for what it says of itself, and shows it. Whatever came from a file or from the
// service is set as text, and the token is in this variable and nowhere else.
'use strict';

let token = '';
let trusted; // the instance that took it: no other program at this address gets it

const EVERY_MS = 1000;
const INFO_MS = 5000; // models are loaded and unloaded
const PATIENCE_MS = 5000;
const EMBED_MS = 60_000;
const SAMPLES = 120;
const RECENT_MS = 10_000; // what was longer ago is not told

const PHASES = {
  starting: 'The service starts.',
  verifying: 'The hashes of its files are checked.',
  downloading: 'It is downloaded.',
  importing: 'The engine is imported.',
  loading: 'Its weights are read.',
  checking: 'Reference texts are embedded and compared.',
};
const STATES = {
  stuck: ['The engine is stuck', 'One call of it takes very long, and requests wait.'],
  dead: ['The compute thread ended', 'The service tries to start another. Its log says more.'],
  stopping: ['The service is stopping', 'Running requests are answered, new ones are refused.'],
};
const STAND_INS = {
  reference: 'the reference engine serves, which is slower than the packed one',
  cpu: 'the CPU serves instead of a GPU',
  'float32-products': 'products of bytes are computed as floats, which is slower',
};
const TYPES = { pdf: 'application/pdf', md: 'text/markdown' };

const byId = (id) => document.getElementById(id);
const number = (value, digits = 0) =>
  value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
const count = (many, what) => `${number(many)} ${what}${many === 1 ? '' : 's'}`;
const sentences = (...parts) =>
  parts.filter(Boolean).map((part) => `${part[0].toUpperCase()}${part.slice(1)}.`).join(' ');

function say(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function made(name, text = '', className = '') {
  const element = document.createElement(name);
  element.textContent = text;
  element.className = className;
  return element;
}

// Replaces what is in the element, if that would be other than before.
function fill(id, facts, build) {
  const place = byId(id);
  const key = JSON.stringify(facts);
  if (place.dataset.shown === key) return;
  place.dataset.shown = key;
  place.replaceChildren(...facts.map(build));
}

// Requests

class Refused extends Error {
  constructor(status, { detail, why, next }) {
    super(sentences(detail, why, next));
    this.status = status;
  }
}

function send(path, { headers = {}, signal = AbortSignal.timeout(PATIENCE_MS), ...options } = {}) {
  // A browser may take the Origin from the referrer, and would send `null` without one.
  const policy = { cache: 'no-store', credentials: 'omit', referrerPolicy: 'same-origin' };
  return fetch(path, { ...options, ...policy, headers, signal });
}

const bearer = () => (token ? { Authorization: `Bearer ${token}` } : {});

async function ask(path, { headers = {}, ...options } = {}) {
  const answer = await send(path, { ...options, headers: { ...headers, ...bearer() } });
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => ({ detail: `status ${answer.status}` })));
}

// Does the task, and tells why it failed. Returns whether it was done.
async function attempt(task, id) {
  say(id, '');
  try {
    await task();
    return true;
  } catch (error) {
    if (error.status === 401) forget();
    if (error.name === 'TypeError') say(id, 'The service does not answer.');
    else if (error.name === 'TimeoutError') say(id, 'The service did not answer in time.');
    else if (error.name !== 'AbortError') say(id, error.message);
    return false;
  }
}

// Metrics by name; those with labels are added up.
function metricsIn(text) {
  const sums = {};
  for (const line of text.split('\n')) {
    const [, name, value] = /^(\w+)(?:\{.*\})? (\S+)$/.exec(line) ?? [];
    if (name) sums[name] = (sums[name] ?? 0) + Number(value);
  }
  return sums;
}

// What is known of the service

let health;
let info;
let infoMs;
let metrics;
let metricsMs;
let goneMs; // since when nothing answers
let loadingMs;
let back;
let refused = { many: 0, ms: -Infinity };
const rates = { texts: [], tokens: [] };

const isOpen = () => health !== undefined && ('model' in health || health.instance === trusted);

async function look() {
  const now = performance.now();
  let found;
  try {
    found = await (await send('health')).json();
    if (typeof found.instance !== 'string') throw new TypeError('another program answers');
  } catch {
    goneMs ??= now;
    sample(undefined, now);
    show(now);
    return;
  }
  const isOther = found.instance !== health?.instance;
  if (health && goneMs !== undefined) {
    const what = isOther ? 'It was started again.' : 'It was not restarted.';
    back = { ms: now, text: `Nothing answered for ${Math.ceil((now - goneMs) / 1000)} s. ${what}` };
  }
  if (isOther) info = metrics = undefined;
  if (found.instance !== trusted) token = '';
  goneMs = undefined;
  health = found;
  loadingMs = health.status === 'loading' ? (loadingMs ?? now) : undefined;
  await lookCloser(now);
  show(now);
}

async function lookCloser(now) {
  let found;
  try {
    if (isOpen() && loadingMs === undefined && health.status !== 'stopping') {
      if (!info || now - infoMs > INFO_MS) [info, infoMs] = [await (await ask('info')).json(), now];
      found = metricsIn(await (await ask('metrics')).text());
    }
  } catch (error) {
    if (error.status === 401) forget();
  }
  sample(found, performance.now());
}

function sample(found, now) {
  const grown = (key) => Math.max(0, (found[key] ?? 0) - (metrics[key] ?? 0));
  for (const [name, values] of Object.entries(rates)) {
    const seconds = (now - metricsMs) / 1000;
    values.push(found && metrics ? grown(`sidecar_${name}_total`) / seconds : null);
    if (values.length > SAMPLES) values.shift();
  }
  const more = found && metrics ? grown('sidecar_requests_refused_total') : 0;
  if (more) refused = { many: more + (now - refused.ms < RECENT_MS ? refused.many : 0), ms: now };
  [metrics, metricsMs] = [found, now];
}

// The first is the state.
function* noticesAt(now) {
  if (goneMs !== undefined) {
    const text = 'Nothing answers at this address. The page asks again every second.';
    yield ['gone', health ? 'The service is gone' : 'The service does not answer', text];
    return;
  }
  const { status, phase, bundle } = health;
  if (STATES[status]) yield [status, ...STATES[status]];
  if (status === 'loading') yield ['loading', 'The model is loading', PHASES[phase] ?? phase];
  if (!isOpen()) yield ['unauthorised', 'Unauthorised', 'All but its state is for those who have its token.'];
  if (now - refused.ms < RECENT_MS) {
    yield ['full', 'The queue is full', `${count(refused.many, 'request')} had to be refused (429) in the last seconds.`];
  }
  if (bundle === 'gone') {
    yield ['degraded', 'The bundle is gone', 'It was moved, replaced or deleted. Restart the service from its new path.'];
  }
  for (const { degraded, degraded_because: why, failure, ...model } of models()) {
    if (degraded) yield ['degraded', `Degraded: ${nameOf(model)} (${degraded})`, sentences(STAND_INS[degraded], why)];
    if (failure) yield ['degraded', `${nameOf(model)} could not be loaded`, `${failure}. Requests try again.`];
  }
  if (back && now - back.ms < RECENT_MS) yield ['ready', 'The service is back', back.text];
}

// A service that lists no models says of its one what it says of itself.
const models = () => (info ? (info.models ?? [info]) : []);
const nameOf = (model) => model.names?.[0] ?? model.served_model_name ?? model.model_id;

function show(now) {
  const notices = [...noticesAt(now)];
  const state = notices[0]?.[0] ?? 'ready';
  const seconds = loadingMs === undefined ? '' : `, ${number((now - loadingMs) / 1000)} s`;
  document.body.dataset.state = state;
  document.title = `Sidecar: ${state}`;
  say('state-text', `${state}${seconds}`);
  say('version', health ? `Version ${health.version}.` : '');
  fill('notices', notices, ([kind, title, text]) => {
    const notice = made('p', '', `notice ${kind}`);
    notice.append(made('strong', `${title}.`), ` ${text}`);
    return notice;
  });
  byId('token-form').hidden = goneMs !== undefined || isOpen();
  byId('forget').hidden = !token;
  fill('models', models(), modelItem);
  showChoice();
  fill('facts', factsOf(info, metrics), ([name, value]) => {
    const row = made('div');
    row.append(made('dt', name), made('dd', value));
    return row;
  });
  for (const name of Object.keys(rates)) draw(name);
  byId('calls').hidden = !info;
  if (info) fill('code', snippets(nameOf(models()[0]), token !== ''), snippetItem);
}

function modelItem(model) {
  const { model_id: repository, dim, max_tokens: most, fingerprint, phase } = model;
  const item = made('li');
  const head = made('p');
  head.append(made('strong', nameOf(model)), ' ', made('span', phase ?? '', 'tag'));
  const own = repository === nameOf(model) ? '' : repository;
  const facts = [own, dim && `${dim} dimensions`, most && `reads ${number(most)} tokens`];
  item.append(head, made('p', facts.filter(Boolean).join(', '), 'quiet'));
  if (fingerprint) item.append(made('p', `fingerprint ${fingerprint}`, 'quiet'));
  return item;
}

function showChoice() {
  const choice = byId('model');
  const before = choice.value;
  fill('model', models().map(nameOf), (name) => made('option', name));
  if ([...choice.options].some((option) => option.value === before)) choice.value = before;
  byId('model-choice').hidden = choice.options.length < 2;
}

const chosen = () => (byId('model-choice').hidden ? {} : { model: byId('model').value });

function factsOf(about, measured) {
  const value = (key, text) => (measured?.[key] === undefined ? '–' : text(measured[key]));
  const most = about ? ` of ${number(about.limits.max_queued_tokens)}` : '';
  return [
    ['Engine', about ? `${about.engine}, ${about.precision}` : '–'],
    ['Device', about ? `${about.device}, ${count(about.threads, 'thread')}` : '–'],
    ['Resident memory', value('process_resident_memory_bytes', (bytes) => `${number(bytes / 1e6)} MB`)],
    ['Queued', value('sidecar_queued_tokens', (tokens) => `${number(tokens)}${most} tokens`)],
    ['Embedded', value('sidecar_texts_total', (texts) => count(texts, 'text'))],
    ['Refused', value('sidecar_requests_refused_total', (many) => count(many, 'request'))],
  ];
}

// Time in which nothing was measured is a gap.
function draw(name) {
  const values = rates[name];
  const known = values.filter((value) => value !== null);
  const most = Math.max(1, ...known);
  let [line, area] = ['', ''];
  values.forEach((value, index) => {
    if (value === null) return;
    const x = SAMPLES - values.length + index;
    const point = `${x} ${(38 - (36 * value) / most).toFixed(1)}`;
    const isFirst = (values[index - 1] ?? null) === null;
    line += `${isFirst ? 'M' : 'L'}${point}`;
    area += isFirst ? `M${x} 40L${point}` : `L${point}`;
    if ((values[index + 1] ?? null) === null) area += `L${x} 40Z`;
  });
  const chart = byId(`${name}-chart`);
  chart.querySelector('.line').setAttribute('d', line);
  chart.querySelector('.area').setAttribute('d', area);
  const last = values.at(-1) ?? null;
  const text = last === null ? '–' : `${number(last)} (peak ${number(Math.max(...known))})`;
  say(`${name}-now`, text);
  chart.setAttribute('aria-label', `${name} a second: ${text}`);
}

// The token

function forget() {
  token = '';
  trusted = undefined;
}

byId('token-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const field = byId('token');
  const typed = field.value.trim();
  field.value = '';
  const isDone = await attempt(async () => {
    if (!/^[\x21-\x7e]+$/.test(typed)) throw new Error('A token has no spaces, and letters of ASCII alone.');
    const found = await (await send('health', { headers: { Authorization: `Bearer ${typed}` } })).json();
    if (!('model' in found)) throw new Error('This is not the token of the service.');
    [token, trusted] = [typed, found.instance];
  }, 'token-error');
  if (!isDone) return field.focus();
  byId('service-title').focus();
  await follow();
});
byId('forget').addEventListener('click', async () => {
  forget();
  info = metrics = undefined;
  await follow();
  byId('token').focus();
});

// Two texts

let compared = 0; // the texts as they are, by number: an answer to earlier ones is not shown

byId('compare').addEventListener('submit', async (event) => {
  event.preventDefault();
  const isDone = await attempt(compare, 'compare-error');
  if (!isDone) say('cosine-note', '');
});
byId('compare').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) byId('compare').requestSubmit();
});
byId('compare').addEventListener('input', () => showCosine(''));

function showCosine(note, cosine) {
  compared += 1;
  byId('cosine-result').hidden = cosine === undefined;
  say('cosine-note', note);
  if (cosine === undefined) return;
  say('cosine', cosine.toFixed(4));
  byId('mark').style.left = `${50 + 50 * cosine}%`;
}

async function compare() {
  showCosine('Embedding …');
  const [mine, began] = [compared, performance.now()];
  const answer = await ask('embed', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ texts: [byId('first').value, byId('second').value], ...chosen() }),
    signal: AbortSignal.timeout(EMBED_MS),
  });
  const { vectors, tokens, truncated, model } = await answer.json();
  if (mine !== compared) return;
  const ms = performance.now() - began;
  const cosine = vectors[0].reduce((sum, value, at) => sum + value * vectors[1][at], 0);
  const cut = truncated.length ? ' What is longer than the model reads was cut.' : '';
  showCosine(`${model}, ${tokens.map((many) => number(many)).join(' and ')} tokens, ${number(ms)}\u00a0ms.${cut}`, cosine);
}

// A document

let reading;

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value = '' } = await reader.read();
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
    if (done) return;
  }
}

async function read(file) {
  reading?.abort();
  const mine = (reading = new AbortController());
  byId('chunks').replaceChildren();
  byId('chunks').hidden = true;
  byId('cancel').hidden = false;
  say('document-note', `Reading ${file.name} …`);
  const isDone = await attempt(() => embedFile(file, mine.signal), 'document-error');
  if (reading !== mine) return; // another file was chosen
  reading = undefined;
  byId('cancel').hidden = true;
  if (!isDone) say('document-note', mine.signal.aborted ? 'Cancelled.' : file.name);
}

async function embedFile(file, signal) {
  const most = info?.limits.max_file_bytes ?? Infinity;
  if (file.size > most) throw new Error(`The file is larger than ${number(most / 2 ** 20)} MiB.`);
  const type = TYPES[file.name.toLowerCase().split('.').at(-1)] ?? 'text/plain';
  const query = new URLSearchParams({ unit: 'tokens', encoding: 'base64', ...chosen() });
  const began = performance.now();
  const answer = await ask(`embed-file/upload?${query}`, {
    method: 'POST',
    headers: { 'Content-Type': type, Accept: 'application/x-ndjson' },
    body: file,
    signal,
  });
  let found;
  for await (const { type: kind, data } of linesOf(answer.body)) {
    if (kind === 'problem') throw new Refused(data.status, data);
    if (kind === 'start') found = data;
    if (kind !== 'chunks') continue;
    byId('chunks').append(...data.chunks.map((text, at) => chunkItem(text, data.spans[at])));
    byId('chunks').hidden = false;
    say('document-note', `${file.name}: ${number(data.done)} of ${count(data.total, 'chunk')}`);
  }
  const { pages, chunks, losses } = found;
  const seconds = number((performance.now() - began) / 1000, 1);
  const parts = [count(chunks, 'chunk'), pages && count(pages, 'page'), `${seconds} s`];
  const lost = losses.map(({ kind, count: many }) => ` Left out: ${kind} (${number(many)}).`);
  say('document-note', `${file.name}: ${parts.filter(Boolean).join(', ')}.${lost.join('')}`);
}

function chunkItem(text, { page, start, end, tokens }) {
  const item = made('li');
  const body = made('p', text);
  const place = `${page === null ? '' : `page ${number(page)}, `}characters ${number(start)} to ${number(end)}`;
  body.dir = 'auto';
  item.append(made('p', `${place}, ${count(tokens, 'token')}`, 'quiet'), body);
  return item;
}

byId('file').addEventListener('change', ({ target }) => {
  if (target.files[0]) void read(target.files[0]);
  target.value = ''; // or the same file could not be chosen again
});
byId('cancel').addEventListener('click', () => reading?.abort());
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') reading?.abort();
});
// Anywhere, as the browser would open a file that missed the box.
for (const name of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    byId('drop').classList.toggle('over', name === 'dragover');
    if (name === 'drop' && event.dataTransfer.files[0]) void read(event.dataTransfer.files[0]);
  });
}

// Lines to copy

function snippets(name, hasToken) {
  const base = location.origin;
  const model = JSON.stringify(name);
  const os = hasToken ? 'import os\n\n' : '';
  const key = 'os.environ["SIDECAR_TOKEN"]';
  const curl = [
    `curl ${base}/embed`,
    `-H 'Content-Type: application/json'`,
    ...(hasToken ? ['-H "Authorization: Bearer $SIDECAR_TOKEN"'] : []),
    `-d '{"texts": ["hello world"]}'`,
  ];
  const headers = [
    `    'Content-Type': 'application/json',`,
    ...(hasToken ? ['    Authorization: `Bearer ${process.env.SIDECAR_TOKEN}`,'] : []),
  ];
  const node = `const url = '${base}/embed';
const answer = await fetch(url, {
  method: 'POST',
  headers: {
${headers.join('\n')}
  },
  body: JSON.stringify({ texts: ['hello world'] }),
});
const { vectors } = await answer.json();`;
  const openai = `${os}from openai import OpenAI

client = OpenAI(
    base_url="${base}/v1",
    api_key=${hasToken ? key : '"unused"'},
)
found = client.embeddings.create(
    model=${model}, input=["hello world"]
)
vector = found.data[0].embedding`;
  const shown = hasToken ? `\n    headers={"Authorization": "Bearer " + ${key}},` : '';
  const ollama = `${os}from ollama import Client

client = Client(
    host="${base}",${shown}
)
found = client.embed(
    model=${model}, input=["hello world"]
)
vector = found.embeddings[0]`;
  return [
    ['curl', curl.join(' \\\n  ')],
    ['Node', node],
    ['Python, openai', openai],
    ['Python, ollama', ollama],
  ];
}

function snippetItem([title, text]) {
  const item = made('section');
  const head = made('div', '', 'row');
  const copy = made('button', 'Copy', 'plain');
  const code = made('pre', text);
  code.tabIndex = 0; // to be scrolled by keys
  copy.type = 'button';
  copy.setAttribute('aria-label', `Copy: ${title}`);
  copy.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(text);
      say('copied', `Copied: ${title}.`);
    } catch {
      getSelection().selectAllChildren(code); // only loopback and TLS have a clipboard
      say('copied', `Selected: ${title}. Copy it with the keyboard.`);
    }
  });
  head.append(made('h3', title), copy);
  item.append(head, code);
  return item;
}

// A hidden page asks for nothing.
let turn = Promise.resolve();
let timer;

function follow() {
  turn = turn.catch(() => {}).then(async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      await look();
    } finally {
      timer = setTimeout(follow, EVERY_MS);
    }
  });
  return turn;
}

document.addEventListener('visibilitychange', follow);
void follow();
