/** A small drawing of a kind of device. */

import { fromMarkup } from '../dom.js';

const KINDS = {
  phone: '<rect x="7" y="2.5" width="10" height="19" rx="2.5"/><path d="M11 18.5h2"/>',
  laptop: '<rect x="4" y="4.5" width="16" height="11" rx="2"/><path d="M2 19.5h20"/>',
  app: '<rect x="3" y="4.5" width="18" height="15" rx="2.5"/><path d="M7 10l3 2.5L7 15M12.5 15H17"/>',
};

/** @param {{device?: string, client?: string}} session  @returns {Node} */
export function deviceIcon({ device = '', client = '' }) {
  const phone = /Android|iPhone|iPad|Mobile/.test(device);
  const kind = phone ? 'phone' : client === 'native' || !device.startsWith('Mozilla/') ? 'app' : 'laptop';
  return fromMarkup(
    `<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">${KINDS[kind]}</svg>`);
}
