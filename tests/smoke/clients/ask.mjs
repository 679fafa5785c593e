// Lets one client of another service ask ours, and writes what it gets as JSON: as ask.py does.
// node ask.mjs NAME
import { text } from 'node:stream/consumers';

const OTHER = 'text-embedding-3-small';
const QUERY = 'harbour';
const WRONG = 'a-key-of-another-service';

const MAKERS = {
  async openai(url, key, model) {
    const { default: OpenAI } = await import('openai');
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
    const many = async (input, options) =>
      (await client.embeddings.create({ model, input, ...options })).data.map((row) => row.embedding);
    return {
      one: async (input) => (await many(input))[0],
      many,
      more: {
        floats: async () => (await many(QUERY, { encoding_format: 'float' }))[0],
        names: async () => (await client.models.list()).data.map(({ id }) => id),
      },
    };
  },
  async ollama(url, key, model) {
    const { Ollama } = await import('ollama');
    const client = new Ollama({ host: url, headers: { Authorization: `Bearer ${key}` } });
    const many = async (input) => (await client.embed({ model, input })).embeddings;
    return {
      one: async (input) => (await many(input))[0],
      many,
      more: {
        older: async () => (await client.embeddings({ model, prompt: QUERY })).embedding,
        names: async () => (await client.list()).models.map((one) => one.name),
        shown: async () => (await client.show({ model })).capabilities,
        pulled: async () => {
          const said = [];
          for await (const { status } of await client.pull({ model, stream: true })) said.push(status);
          return said;
        },
        refused: () => client.embed({ model, input: 'word '.repeat(2000), truncate: false }),
      },
    };
  },
  async huggingface(url, key) {
    const { InferenceClient } = await import('@huggingface/inference');
    const client = new InferenceClient(key).endpoint(url);
    const many = (inputs) => client.featureExtraction({ inputs });
    return { one: async (input) => (await many(input))[0], many, more: {} };
  },
  async langchain_openai(url, key, model) {
    const { OpenAIEmbeddings } = await import('@langchain/openai');
    const options = { model, apiKey: key, configuration: { baseURL: `${url}/v1` } };
    return langchain(new OpenAIEmbeddings(options));
  },
  async langchain_ollama(url, key, model) {
    const { OllamaEmbeddings } = await import('@langchain/ollama');
    // By default it sends what was refused six times more, for a minute and longer.
    const headers = { Authorization: `Bearer ${key}` };
    const options = { model, baseUrl: url, headers, maxRetries: 0 };
    const cut = new OllamaEmbeddings({ ...options, truncate: true });
    return {
      ...langchain(new OllamaEmbeddings(options)),
      more: { cut: () => cut.embedQuery('word '.repeat(2000)) },
    };
  },
};

function langchain(made) {
  return { one: (input) => made.embedQuery(input), many: (inputs) => made.embedDocuments(inputs), more: {} };
}

async function outcome(ask) {
  try {
    return { given: (await ask()) ?? null };
  } catch (error) {
    return { error: error.constructor.name, said: String(error.message) };
  }
}

const make = MAKERS[process.argv[2]];
const { url, guarded, model, token, texts, long } = JSON.parse(await text(process.stdin));
const made = await make(url, 'unused', model);
const found = {
  one: await outcome(() => made.one(texts[0])),
  query: await outcome(() => made.one(QUERY)),
  many: await outcome(() => made.many(texts)),
  empty: await outcome(() => made.one('')),
  none: await outcome(() => made.many([])),
  long: await outcome(() => made.many([texts[0], long])),
  other: await outcome(async () => (await make(url, 'unused', OTHER)).one(texts[0])),
  right: await outcome(async () => (await make(guarded, token, model)).one(texts[0])),
  wrong: await outcome(async () => (await make(guarded, WRONG, model)).one(texts[0])),
};
for (const [name, ask] of Object.entries(made.more)) found[name] = await outcome(ask);
process.stdout.write(JSON.stringify({ found, outside: [] }));
