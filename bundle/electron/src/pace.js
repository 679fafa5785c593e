/** How much a service computes in a time, by what was seen of it. */

// Before anything was seen: a thousand tokens, which a large model on a slow machine has in seconds.
const FIRST_BYTES = 4000;
const FIRST_TOKENS_PER_BYTE = 0.25;
// Others may ask, too, and what comes next may be denser: a request is for a sixth of its time.
const SHARE = 6;
// What takes so little is slow for its way, and not for the service.
const FEW_TOKENS = 256;
const SHORT_MS = 1000;

/**
 * The speed of a service and the density of texts, in tokens. A change for the worse is believed
 * at once, one for the better by half.
 */
export class Pace {
  /** @type {number | undefined} */
  #tokensPerMs;
  #tokensPerByte = FIRST_TOKENS_PER_BYTE;

  /**
   * Return how many bytes of text to ask for in one request that may take `ms` milliseconds.
   * @param {number} ms
   * @returns {number}
   */
  bytesIn(ms) {
    if (this.#tokensPerMs === undefined) return FIRST_BYTES;
    return (ms / SHARE) * (this.#tokensPerMs / this.#tokensPerByte);
  }

  /**
   * Learn from a request that was answered.
   * @param {{ bytes: number, tokens: number, ms: number }} answered
   */
  saw({ bytes, tokens, ms }) {
    const [speed, density] = [tokens / Math.max(ms, 1), tokens / Math.max(bytes, 1)];
    const wasSpeed = this.#tokensPerMs ?? speed;
    const wasDensity = this.#tokensPerByte;
    const isShort = tokens < FEW_TOKENS && ms < SHORT_MS;
    if (tokens === 0 || (isShort && (this.#tokensPerMs === undefined || speed < wasSpeed))) return;
    this.#tokensPerMs = speed < wasSpeed ? speed : (speed + wasSpeed) / 2;
    this.#tokensPerByte = density > wasDensity ? density : (density + wasDensity) / 2;
  }
}
