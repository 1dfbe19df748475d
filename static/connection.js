/** The state of the connection, in the bar of the page. */

import { byId, duration, setText } from './dom.js';
import { reasonText, stateText } from './words.js';

export class ConnectionView {
  /** @param {import('./usher.js').UsherClient} client */
  constructor(client) {
    this.client = client;
    client.addEventListener('state', () => this.#show());
    setInterval(() => this.#tick(), 1000);
  }

  #show() {
    const { state } = this.client;
    const text = stateText(state);
    byId('state').dataset.state = state.name;
    byId('state-shape').setAttribute('href', `#shape-${state.name}`);
    byId('state').title = 'reason' in state ? reasonText(state) : '';
    setText(byId('announce'), 'reason' in state ? `${text}. ${reasonText(state)}` : text);
    this.#tick();
  }

  /** Once a second: what counts down. */
  #tick() {
    const { state } = this.client;
    setText(byId('state-name'), stateText(state));
    setText(byId('state-more'), state.name === 'waiting'
      ? `, next attempt in ${duration((state.retryAt - Date.now()) / 1000)}` : '');
  }
}
