/** Documents in the order of their similarity to a text. */

/**
 * Return the cosine of the angle between two vectors: 1 for the same direction.
 * @param {Float32Array} one
 * @param {Float32Array} two
 * @returns {number}
 */
export function cosine(one, two) {
  let dot = 0;
  let ones = 0;
  let twos = 0;
  for (let i = 0; i < one.length; i += 1) {
    const [a, b] = [one[i] ?? 0, two[i] ?? 0];
    dot += a * b;
    ones += a * a;
    twos += b * b;
  }
  return ones && twos ? dot / Math.sqrt(ones * twos) : 0;
}

/** Ranks a few documents; their vectors are made once per vector space. */
export class Ranking {
  #client;
  #documents;
  /** @type {import('@sidecar/electron').Embedded | undefined} */
  #known;

  /**
   * @param {import('@sidecar/electron').PythonSidecarClient} client
   * @param {readonly { title: string, text: string }[]} documents
   */
  constructor(client, documents) {
    this.#client = client;
    this.#documents = documents;
  }

  /**
   * Embed the documents, and return the space that they are in.
   * @returns {Promise<{ dimensions: number, fingerprint: string }>}
   */
  async prepare() {
    const texts = this.#documents.map(({ title, text }) => `${title}. ${text}`);
    this.#known = await this.#client.embedBatch(texts);
    return this.#known;
  }

  /**
   * Return the documents, the most similar one first, with the vector of the text.
   * @param {string} text
   * @param {AbortSignal} [signal]
   */
  async rank(text, signal) {
    const begun = performance.now();
    const asked = await this.#client.embed([text], {
      priority: 'interactive',
      ...(signal ? { signal } : {}),
    });
    const ms = performance.now() - begun;
    // Another model was started: vectors of two spaces are never compared.
    if (this.#known?.fingerprint !== asked.fingerprint) await this.prepare();
    const vector = asked.vectors[0] ?? new Float32Array();
    const ranked = this.#documents
      .map((document, index) => {
        const row = this.#known?.vectors[index] ?? new Float32Array();
        return { ...document, index, similarity: cosine(vector, row) };
      })
      .sort((one, two) => two.similarity - one.similarity);
    const { dimensions, fingerprint, truncatedCount } = asked;
    return { ranked, vector: [...vector], dimensions, fingerprint, isCut: truncatedCount > 0, ms };
  }
}
