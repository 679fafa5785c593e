/** How much a service computes in a time, by what was seen of it. */

// Before anything was seen: a few hundred tokens a second, as of a large model on a slow machine.
const FIRST_TOKENS_PER_MS = 0.2;
const FIRST_TOKENS_PER_BYTE = 0.25;
// Others may ask, too, and what comes next may be denser: a request is for a sixth of its time.
const SHARE = 6;
// What takes so little says more of the way than of the service.
const FEW_TOKENS = 256;
const SHORT_MS = 1000;

/**
 * The speed of a service and the density of texts, in tokens. A change for the worse is believed
 * at once, one for the better by half.
 */
export class Pace {
  #tokensPerMs = FIRST_TOKENS_PER_MS;
  #tokensPerByte = FIRST_TOKENS_PER_BYTE;
  #isSeen = false;

  /**
   * Return how many bytes of text to ask for in one request that may take `ms` milliseconds.
   * @param {number} ms
   * @returns {number}
   */
  bytesIn(ms) {
    return (ms / SHARE) * (this.#tokensPerMs / this.#tokensPerByte);
  }

  /**
   * Learn from a request that was answered.
   * @param {{ bytes: number, tokens: number, ms: number }} answered
   */
  saw({ bytes, tokens, ms }) {
    if (tokens < FEW_TOKENS && (ms < SHORT_MS || tokens === 0)) return;
    const [speed, density] = [tokens / Math.max(ms, 1), tokens / Math.max(bytes, 1)];
    const [wasSpeed, wasDensity] = [this.#tokensPerMs, this.#tokensPerByte];
    const isBelieved = !this.#isSeen || speed < wasSpeed;
    this.#tokensPerMs = isBelieved ? speed : (speed + wasSpeed) / 2;
    this.#tokensPerByte = density > wasDensity ? density : (density + wasDensity) / 2;
    this.#isSeen = true;
  }
}
