/** What the page shows, made of what the service announces. */

import { EventEmitter } from 'node:events';

/** @typedef {{ id: string, label: string, isDone: boolean }} Step */

const STEPS = Object.freeze([
  ['starting', 'Python is started'],
  ['model_cached', 'The model is found and checked'],
  ['model_loaded', 'The model is in memory'],
  ['ready', 'The service has proven who it is'],
]);

/** Follows one service; emits `change` with every new picture of it. */
export class State extends EventEmitter {
  #service;
  /** @type {Set<string>} */
  #reached = new Set();
  #since = Date.now();
  /** @type {Record<string, unknown>} */
  #space = {};
  /** @type {Record<string, unknown> | undefined} */
  #failure;

  /** @param {import('@sidecar/electron').PythonSidecarService} service */
  constructor(service) {
    super();
    this.#service = service;
    service.on('progress', ({ type, data }) => {
      if (type === 'starting') {
        this.#reached.clear();
        this.#since = Date.now();
      }
      this.#reached.add(type);
      if (type === 'failed' || type === 'restarting') this.#failure = { ...data };
      if (type === 'ready') this.#failure = undefined;
      this.emit('change', this.picture());
    });
  }

  /**
   * Take what is known of the vector space and of the service's health.
   * @param {Record<string, unknown>} space
   */
  know(space) {
    this.#space = { ...this.#space, ...space };
    this.emit('change', this.picture());
  }

  /** Return everything that the page shows. */
  picture() {
    const { state, port, version, model, dimensions, crashes } = this.#service.getStatus();
    return {
      state,
      since: this.#since,
      steps: STEPS.map(([id, label]) => ({ id, label, isDone: this.#isDone(String(id)) })),
      failure: this.#failure,
      space: { ...this.#space, model, dimensions, port, version, crashes },
    };
  }

  /** @param {string} id */
  #isDone(id) {
    const order = STEPS.map(([step]) => step);
    return order.slice(order.indexOf(id) + (id === 'starting' ? 1 : 0)).some((step) => {
      return this.#reached.has(String(step));
    });
  }
}
