// The service's side of the protocol, as far as tests need it: vectors are made from the text.

export const DIMENSIONS = 8;
export const FINGERPRINT = 'c0ffee0123456789';

// Words shared by two texts bring their vectors closer, as with a model, if for another reason.
export function vectorOf(text, dimensions = DIMENSIONS) {
  const row = new Float32Array(dimensions);
  for (const word of text.toLowerCase().split(/\W+/)) {
    let state = [...word].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 2147483647, 7);
    for (let i = 0; i < dimensions; i += 1) {
      state = (state * 48271) % 2147483647;
      row[i] += state / 2147483647 - 0.5;
    }
  }
  return row;
}

// Two of them begin and end a text.
export function tokensOf(text) {
  return Math.ceil(text.length / 4) + 2;
}

export async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

export function problem(response, status, kind, extra = {}, headers = {}) {
  const body = { type: `urn:sidecar:problem:${kind}`, title: kind, status, ...extra };
  response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
  response.end(JSON.stringify(body));
}

export function json(response, value, status = 200) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

export function rows(response, texts, { dimensions = DIMENSIONS, fingerprint = FINGERPRINT } = {}) {
  const vectors = texts.map((text) => Buffer.from(vectorOf(text, dimensions).buffer));
  const cut = texts.flatMap((text, index) => (text.length > 1000 ? [index] : []));
  response.writeHead(200, {
    'content-type': 'application/octet-stream',
    'content-length': texts.length * dimensions * 4,
    'x-sidecar-count': texts.length,
    'x-sidecar-dim': dimensions,
    'x-sidecar-tokens': texts.reduce((sum, text) => sum + tokensOf(text), 0),
    'x-sidecar-truncated': cut.join(','),
    'x-sidecar-fingerprint': fingerprint,
  });
  response.end(Buffer.concat(vectors));
}

export function fileLines(chunks, { pages = 1 } = {}) {
  const start = {
    pages,
    chunks: chunks.length,
    complete: true,
    losses: [],
    notes: [],
    model: 'scripted',
    dim: DIMENSIONS,
    fingerprint: FINGERPRINT,
  };
  const lines = [{ type: 'start', data: start }];
  chunks.forEach((chunk, index) => {
    lines.push({ type: 'progress', data: { done: index, total: chunks.length } });
    lines.push({
      type: 'chunks',
      data: {
        first: index,
        chunks: [chunk],
        spans: [{ page: 1, start: 0, end: chunk.length, tokens: 2, truncated: false }],
        vectors: [[...vectorOf(chunk)]],
        done: index + 1,
        total: chunks.length,
      },
    });
  });
  lines.push({ type: 'end', data: { chunks: chunks.length } });
  return lines.map((line) => `${JSON.stringify(line)}\n`);
}

// Answers as the service does, to who brings the token.
export function handler({
  instance,
  token,
  status = () => 'ok',
  bundle = () => 'present',
  shutdown = () => {},
}) {
  return async (request, response) => {
    const body = await bodyOf(request);
    const path = new URL(request.url, 'http://here').pathname;
    const isKnown = token === undefined || request.headers.authorization === `Bearer ${token}`;
    if (path === '/health') {
      const said = {
        status: status(),
        phase: status(),
        instance,
        version: '0.0.0',
        bundle: bundle(path),
      };
      const more = isKnown ? { model: 'scripted', dim: DIMENSIONS, device: 'cpu' } : {};
      json(response, { ...said, ...more }, said.status === 'ok' ? 200 : 503);
    } else if (!isKnown) {
      problem(response, 401, 'no-token');
    } else if (path === '/shutdown') {
      json(response, { status: 'stopping' }, 202);
      shutdown();
    } else if (path === '/embed') {
      rows(response, JSON.parse(body).texts);
    } else if (path === '/embed-file/upload') {
      if (bundle(path) === 'gone') {
        problem(response, 503, 'bundle-gone', {}, { 'retry-after': '1' });
        return;
      }
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.end(fileLines(['a chunk']).join(''));
    } else if (path === '/info') {
      json(response, { model_id: 'scripted', dim: DIMENSIONS, fingerprint: FINGERPRINT });
    } else {
      problem(response, 404, 'unknown-path');
    }
  };
}
