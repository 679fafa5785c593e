// Shows the pictures that the main process sends, and sends what is typed.

const WAIT_MS = 180;
const STATES = {
  starting: 'starting',
  restarting: 'starting again',
  ready: 'ready',
  stopping: 'stopping',
  stopped: 'stopped',
  failed: 'failed',
};
const byId = (id) => document.getElementById(id);
const query = byId('query');

let picture;
let documents = [];
let asking;
let answered;

function show(next) {
  picture = next;
  const { state, steps, failure, space } = picture;
  const isReady = state === 'ready';
  const hasFailed = state === 'failed' || state === 'stopped';
  document.body.dataset.state = state;
  byId('status-text').textContent = STATES[state] ?? state;
  byId('startup').hidden = isReady || hasFailed;
  byId('failure').hidden = !hasFailed;
  query.disabled = !isReady;
  showSteps(steps, state);
  showFailure(failure, state);
  showSpace(space, isReady);
  if (isReady && query.value.trim() !== '' && !answered) ask();
  if (!isReady) forget();
}

function showSteps(steps, state) {
  const now = steps.findIndex((step) => !step.isDone);
  byId('steps').replaceChildren(
    ...steps.map((step, index) => {
      const item = document.createElement('li');
      item.textContent = step.label;
      if (step.isDone) item.className = 'done';
      else if (index === now && state !== 'failed') item.className = 'now';
      return item;
    }),
  );
  const done = steps.filter((step) => step.isDone).length;
  byId('track-fill').style.width = `${(100 * (done + 0.5)) / steps.length}%`;
  byId('startup-title').textContent = state === 'restarting' ? 'Starting again' : 'Getting ready';
}

function showFailure(failure, state) {
  const message = failure?.message ?? 'It was stopped.';
  byId('failure-message').textContent = message.charAt(0).toUpperCase() + message.slice(1);
  byId('failure-next').textContent = failure?.next ? `What helps: ${failure.next}` : '';
  byId('failure-next').hidden = !failure?.next;
  byId('failure-code').textContent = failure?.code ?? '';
  if (state === 'restarting' && failure) byId('startup-title').textContent = 'Starting again after a crash';
}

function showSpace(space, isReady) {
  const rows = [
    ['Health', isReady ? (space.health ?? 'ok') : '–'],
    ['Model', space.model?.split('/').at(-1) ?? '–'],
    ['Dimensions', space.dimensions ?? '–'],
    ['Fingerprint', space.fingerprint ?? '–', 'code'],
    ['Device', space.device ?? '–'],
    ['Port', isReady ? space.port : '–'],
  ];
  if (space.degraded) rows.splice(1, 0, ['Degraded', `${space.degraded}: vectors are a stand-in`]);
  byId('space').replaceChildren(
    ...rows.map(([name, value, kind = '']) => {
      const row = document.createElement('div');
      const term = document.createElement('dt');
      const told = document.createElement('dd');
      term.textContent = name;
      told.textContent = String(value);
      told.className = kind;
      told.dataset.name = name;
      row.append(term, told);
      return row;
    }),
  );
}

function showDocuments(ranked) {
  byId('documents').replaceChildren(
    ...ranked.map(({ title, text, similarity }, index) => {
      const item = document.createElement('li');
      const name = document.createElement('strong');
      const body = document.createElement('p');
      name.textContent = title;
      body.textContent = text;
      item.append(name);
      if (similarity !== undefined) {
        item.append(scale(similarity));
        if (index === 0) item.className = 'first';
      }
      item.append(body);
      return item;
    }),
  );
}

function scale(similarity) {
  const whole = document.createElement('div');
  const bar = document.createElement('div');
  const fill = document.createElement('div');
  const number = document.createElement('span');
  whole.className = 'similarity';
  bar.className = 'bar';
  fill.style.width = `${Math.max(0, similarity) * 100}%`;
  number.textContent = similarity.toFixed(2);
  bar.append(fill);
  whole.append(bar, number);
  return whole;
}

// Positive values warm, negative ones cold, the more so the further from zero.
function drawStrip(vector) {
  const strip = byId('strip');
  strip.hidden = vector.length === 0;
  strip.width = Math.max(1, vector.length);
  const context = strip.getContext('2d');
  const most = Math.max(...vector.map(Math.abs), 1e-9);
  vector.forEach((value, x) => {
    const strength = Math.sqrt(Math.abs(value) / most);
    context.fillStyle = `hsl(${value > 0 ? 22 : 182} 70% ${50 - 8 * strength}% / ${strength})`;
    context.fillRect(x, 0, 1, 1);
  });
}

function forget() {
  asking?.abort();
  answered = undefined;
  byId('hint').textContent = '';
  byId('order').textContent = 'as they are';
  showDocuments(documents);
  drawStrip([]);
}

async function ask() {
  asking?.abort();
  const text = query.value.trim();
  if (text === '') {
    forget();
    return;
  }
  const mine = (asking = new AbortController());
  try {
    const answer = await fetch('rank', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ text }),
      signal: mine.signal,
    });
    const said = await answer.json();
    if (mine.signal.aborted) return;
    if (!answer.ok) {
      byId('hint').textContent = said.message;
      return;
    }
    answered = said;
    const cut = said.isCut ? ' The model reads only the beginning of so long a text.' : '';
    byId('hint').textContent = `Embedded and compared in ${said.ms.toFixed(0)} ms.${cut}`;
    byId('order').textContent = 'most similar first';
    showDocuments(said.ranked);
    drawStrip(said.vector);
    document.body.dataset.answered = text;
  } catch (error) {
    if (!mine.signal.aborted) byId('hint').textContent = error.message;
  }
}

let typing;
query.addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(ask, WAIT_MS);
});
byId('again').addEventListener('click', () => void fetch('restart', { method: 'POST' }));
setInterval(() => {
  if (!picture || byId('startup').hidden) return;
  const seconds = Math.max(0, (Date.now() - picture.since) / 1000);
  byId('elapsed').textContent = `${seconds.toFixed(0)} s`;
}, 250);

documents = await (await fetch('documents')).json();
showDocuments(documents);
new EventSource('events').addEventListener('message', (event) => show(JSON.parse(event.data)));
